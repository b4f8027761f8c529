"""The JSON Schema for editors: right files fit it, structurally wrong ones do not, and every key is explained."""

import json
import tomllib

import pytest
from jsonschema import Draft7Validator

from agent.cli import main
from agent.composition import list_parts
from agent.composition.schema import configuration_schema
from agent.config.json_schema import descriptions
from agent.config.model import BufferConfig
from tests.config.test_bad_corpus import BAD, CASES
from tests.config.test_config_files import MAIN
from tests.docs.test_readme import PAGES, ROOT
from tests.docs.test_readme import blocks as documented
from tests.rigs import configuration as rig

BEYOND = {
    # Two keys, two tables or two files do not go together.
    "upstream-without-driver",
    "ble-codec-of-characteristics",
    "ble-codec-without-bytes-to-read",
    "ble-name-with-passive-scan",
    "ble-without-filter",
    "codec-csv-column-twice",
    "codec-csv-unit-of-no-column",
    "codec-json-values-and-leave-out",
    "codec-struct-field-without-name",
    "codec-struct-layout-never-used",
    "codec-struct-text-without-length",
    "files-client-id-twice",
    "files-id-twice",
    "files-key-twice",
    "files-no-source-in-any",
    "files-pipeline-of-no-source",
    "files-policy-as-text-and-table",
    "files-upstream-name-twice",
    "framing-delimiters-that-hold-each-other",
    "framing-escape-xor-without-escape",
    "framing-first-frame-with-crc",
    "gatt-asks-for-nothing",
    "gatt-characteristic-twice",
    "gatt-codec-of-advertisements",
    "mqtt-one-client-id-twice",
    "mqtt-topics-that-overlap",
    "mqtt-two-users",
    "pipeline-name-twice",
    "pipeline-of-no-source",
    "pipeline-of-no-source-like-it",
    "section-empty-file",
    "serial-line-settings-of-a-socket",
    "serial-poll-and-resend",
    "serial-poll-framed-with-crc",
    "serial-poll-slower-than-silence",
    "serial-port-and-usb",
    "serial-resend-one-metric-twice",
    "serial-settle-longer-than-silence",
    "serial-without-port",
    "serial-xonxoff-with-binary-frames",
    "simulated-name-twice",
    "simulated-starts-outside-its-limits",
    "source-id-twice",
    "step-alarm-below-above-above",
    "step-calibrate-point-twice",
    "step-calibrate-two-ways",
    "step-convert-other-kind",
    "step-range-low-above-high",
    "step-range-without-limits",
    "step-rate-without-limits",
    "step-select-nothing",
    "step-select-one-name-for-two",
    "upstream-aws-in-a-websocket",
    "upstream-aws-topic-too-deep",
    "upstream-aws-without-certificate",
    "upstream-influxdb-without-token",
    "upstream-thingsboard-mqtt-without-token",
    "upstream-thingsboard-token-in-the-url",
    "upstream-backlog-least-above-usual",
    "upstream-cert-without-tls",
    "upstream-format-that-our-receiver-does-not-read",
    "upstream-influxdb-without-bucket",
    "upstream-limit-below-a-message",
    "upstream-of-a-source-that-there-is-not",
    "upstream-plain-over-the-network",
    "upstream-preset-of-another-driver",
    "upstream-tls-without-a-url-of-tls",
    "upstream-retry-base-above-cap",
    "upstream-token-and-username",
    "upstream-two-of-one-name",
    "secret-key-without-certificate",
    "secret-without-user",
    # What a text says, or what it names.
    "agent-socket-too-long",
    "ble-adapter-unknown",
    "ble-address-broken",
    "buffer-path-empty",
    "buffer-path-too-long-for-its-socket",
    "codec-json-path-broken",
    "codec-regex-no-pattern",
    "codec-regex-slow",
    "codec-regex-without-groups",
    "codec-struct-scale-zero",
    "framing-frame-too-long",
    "gatt-characteristic-unknown",
    "mqtt-ca-file-without-tls",
    "mqtt-topic-hash-in-the-middle",
    "mqtt-url-with-password",
    "mqtt-url-with-a-port-that-is-too-high",
    "upstream-http-url-with-a-word-as-port",
    "mqtt-url-without-scheme",
    "secret-credential-is-a-path",
    "secret-credential-without-systemd",
    "secret-file-missing",
    "secret-variable-is-no-name",
    "secret-variable-missing",
    "serial-poll-with-a-character-that-is-no-byte",
    "serial-poll-with-a-place-that-there-is-not",
    "serial-port-of-windows",
    "serial-resend-request-without-range",
    "serial-socket-without-port-number",
    "step-convert-unit-unknown",
    "step-derive-function-unknown",
    "step-derive-not-an-expression",
    "upstream-ca-file-missing",
    "upstream-http-url-of-mqtt",
    "upstream-http-url-with-a-user",
    "upstream-limit-not-understood",
    "upstream-nats-url-with-a-password",
    "upstream-topic-with-a-wildcard",
    "upstream-url-of-no-driver",
    "upstream-url-of-the-other-driver",
    # A limit of a text with a unit; numbers that JSON does not have.
    "buffer-quota-too-small",
    "buffer-window-two-hours",
    "simulated-rate-not-a-number",
    "source-silent-after-a-year",
    "step-scale-factor-infinite",
}
"""What only the program notices."""


@pytest.fixture(scope="module")
def validator():
    schema = configuration_schema()
    Draft7Validator.check_schema(schema)
    return Draft7Validator(schema)


def wrong(validator, text: str) -> list[str]:
    return [error.message[:300] for error in validator.iter_errors(tomllib.loads(text))]


def examples() -> list:
    """Every example of a part, as a whole file has it."""
    serial = '[[source]]\nid = "x"\ndriver = "serial"\nport = "/dev/ttyUSB0"\n'
    ble = '[[source]]\nid = "x"\ndriver = "ble"\naddress = "A4:C1:38:12:34:56"\n'
    before = {"framing": serial, "codec": ble, "driver": "", "step": ""}
    return [
        pytest.param(before[part.kind] + part.example, id=f"{part.kind}-{part.name}") for part in list_parts()
    ]


@pytest.mark.parametrize("text", [*documented("toml"), *examples()])
def test_every_example_fits(validator, text):
    assert wrong(validator, text) == []


def test_what_the_tests_run_with_fits(validator):
    texts = [
        MAIN,
        rig.device(
            rig.serial_source("/dev/ttyUSB0", framing={"type": "cobs", "max_frame": "1 KiB"}),
            rig.mqtt_source("mqtt://localhost", username="u", password={"env": "WORD"}),
            rig.counting_source(50.5),
            rig.upstream("https://cloud/readings", token={"file": "token"}),
            quota="20 MiB",
            window="20 ms",
        ),
    ]
    assert [wrong(validator, text) for text in texts] == [[], []]
    assert PAGES
    assert all(not wrong(validator, path.read_text()) for path in ROOT.glob("deploy/*.toml"))


def test_of_the_bad_ones_those_whose_structure_is_wrong_do_not(validator):
    accepted = set()
    for name in CASES:
        case = BAD / name
        files = sorted(case.rglob("*.toml")) if case.is_dir() else [BAD / f"{name}.toml"]
        try:
            if not any(wrong(validator, file.read_text()) for file in files):
                accepted.add(name)
        except ValueError:
            assert "is not TOML" in (said := (BAD / f"{name}.says").read_text()) or "UTF-8" in said
    assert accepted == BEYOND


def keys(schema, path=()):
    """Every key with its schema, wherever it stands."""
    for name, own in schema.get("properties", {}).items():
        yield (*path, name), own
        yield from keys(own, (*path, name))
    for inner in (schema.get("items"), schema.get("additionalProperties")):
        for each in inner if isinstance(inner, list) else [inner]:
            if isinstance(each, dict):
                yield from keys(each, path)
    for branch in schema.get("anyOf", ()):
        yield from keys(branch, path)


def test_every_key_is_explained(validator):
    schema = validator.schema
    tables = [schema, *schema["definitions"].values()]
    unexplained = {
        ".".join(path) for table in tables for path, own in keys(table) if not own.get("description")
    }
    assert unexplained == set()


def test_no_secret_s_default_and_no_reference_with_something_beside_it(validator):
    text = json.dumps(validator.schema)
    assert "$defs" not in text
    assert "null" not in text

    def references(value):
        if isinstance(value, dict):
            if "$ref" in value:
                yield value
            for each in value.values():
                yield from references(each)
        elif isinstance(value, list):
            for each in value:
                yield from references(each)

    assert all(set(each) == {"$ref"} for each in references(validator.schema))


def test_the_command_prints_or_writes_it(capsys, tmp_path, validator):
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out) == validator.schema
    assert main(["schema", "--output", str(tmp_path / "s.json")]) == 0
    assert json.loads((tmp_path / "s.json").read_text()) == validator.schema
    assert main(["schema", "--output", str(tmp_path / "no" / "s.json")]) == 1
    assert "cannot be written: No such file" in capsys.readouterr().err


def test_descriptions_are_taken_from_the_source_and_from_bases():
    class Own(BufferConfig):
        pass

    assert descriptions(Own)["path"].startswith("The folder of the buffer")


def test_parts_of_other_packages_are_in_it_and_one_that_does_not_work_harms_no_other(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text(
        "from typing import ClassVar, Literal\n"
        "from drivers.codecs import CodecConfig\n"
        "class MorseConfig(CodecConfig):\n"
        "    summary: ClassVar[str] = 'dots and dashes'\n"
        "    example: ClassVar[str] = ''\n"
        "    type: Literal['morse'] = 'morse'\n"
        "    speed: int = 20\n"
        '    """Words a minute."""\n'
    )
    info = tmp_path / "elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[outstation.codecs]\nmorse = elsewhere:MorseConfig\nbroken = elsewhere:Nothing\n"
        "[outstation.drivers]\ngone = no_such_module:X\n[outstation.processors]\nlost = no_such_module:X\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    validator = Draft7Validator(configuration_schema())
    source = '[[source]]\nid = "x"\ndriver = "serial"\nport = "/dev/ttyUSB0"\ncodec = {}\n'
    assert wrong(validator, source.format('{ type = "morse", speed = 30 }')) == []
    assert wrong(validator, source.format('{ type = "morse", sped = 30 }')) != []
    assert wrong(validator, source.format('{ type = "broken", anything = 30 }')) == []
    assert wrong(validator, '[[source]]\nid = "x"\ndriver = "gone"\nanything = 1\n') == []
    assert (
        validator.schema["definitions"]["codec-morse"]["properties"]["speed"]["description"]
        == "Words a minute."
    )
