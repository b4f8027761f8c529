"""What other packages bring is found, listed, checked and run; the template that the page shows is real."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.composition import catalogue, list_parts
from agent.config import ConfigurationError, load_config
from agent.processors.registry import PROCESSORS, create_processor
from collectors.interfaces import IDataSource
from collectors.models import Reading
from drivers.codecs import CODECS
from drivers.framing import FRAMINGS
from drivers.registry import DRIVERS, driver, load_source_class
from tests.drivers.codecs import checked
from tests.drivers.framings import binary, chunked, good, run
from tests.rigs.example_driver import EXAMPLE, installed

if TYPE_CHECKING:
    from pathlib import Path

PAGE = EXAMPLE.parent / "writing-a-driver.md"
BROUGHT = {"sysfs", "modbus_ascii", "scaled", "median"}
CARRIER = '[[source]]\nid = "carrier"\ndriver = "serial"\nport = "/dev/ttyS0"\n'


@pytest.fixture(scope="module", autouse=True)
def example():
    return installed()


def outstation(*arguments: object, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agent", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=EXAMPLE.parents[1],
    )


def test_every_part_is_listed_with_an_example_that_is_right(tmp_path):
    listed = list(list_parts())
    assert {part.name for part in listed} == {
        *DRIVERS,
        *FRAMINGS.own,
        *CODECS.own,
        *PROCESSORS,
        *BROUGHT,
    }
    for part in listed:
        assert part.problem is None
        assert part.summary
        assert (part.package == "outstation-example 1.0") is (part.name in BROUGHT)
        (tmp_path / "example.toml").write_text(
            part.example if part.kind == "driver" else CARRIER + part.example
        )
        config = load_config(tmp_path / "example.toml", catalogue())
        chosen = {"driver": config.source[0].driver, "codec": config.source[0].codec.type}
        if part.kind == "framing":
            chosen["framing"] = config.source[0].options.framing.type
        if part.kind == "step":
            chosen["step"] = config.pipeline[0].step[0].processor
        assert chosen[part.kind] == part.name


def test_the_step_of_the_template_works():
    step = create_processor("median", {"metric": "x", "of": 3})
    readings = [Reading(source="s", t=t, values={"x": value}) for t, value in enumerate([1, 1, 99, 1, 1])]
    assert [step.apply(reading).values["x"] for reading in readings] == [1, 1, 1, 1, 1]


def test_the_command_lists_them(example):
    told = outstation("drivers", folder=example)
    assert (told.returncode, told.stderr) == (0, "")
    for part in list_parts():
        assert f"  {part.name}" in told.stdout
        assert part.example.splitlines()[0] in told.stdout
    assert "sysfs (outstation-example 1.0): a number that the kernel shows in a file" in told.stdout
    one = outstation("drivers", "cobs", folder=example)
    assert one.stdout.startswith("Framings:")
    assert "lines:" not in one.stdout
    assert outstation("drivers", "morse", folder=example).returncode == 2


def board(path: Path, **changes: str) -> str:
    options = {
        "driver": '"sysfs"',
        "path": json.dumps(str(path)),
        "interval": '"10 ms"',
        "codec": '{ type = "scaled", metric = "temperature", factor = 0.001, unit = "Cel" }',
        **changes,
    }
    return "\n".join(['[[source]]\nid = "board"', *(f"{key} = {value}" for key, value in options.items())])


def test_a_device_reads_with_them(tmp_path, example):
    (tmp_path / "temp").write_text("21500\n")
    (tmp_path / "agent.toml").write_text(board(tmp_path / "temp"))
    right = outstation("check", "--config", tmp_path / "agent.toml", folder=example)
    assert right.returncode == 0, right.stderr
    read = outstation("read", "board", "--count", 2, "--config", tmp_path / "agent.toml", folder=example)
    assert read.returncode == 0, read.stderr
    assert [line.partition("  ")[2] for line in read.stdout.splitlines()] == ['{"temperature": 21.5}'] * 2


@pytest.mark.parametrize(
    ("changes", "where", "message"),
    [
        ({"driver": '"sysfss"'}, "source[0].driver", "did you mean `sysfs`"),
        ({"intervall": "1"}, "source[0].intervall", "did you mean `interval`"),
        ({"codec": '{ type = "scaled" }'}, "source[0].codec.metric", "is required"),
        ({"codec": '"scale"'}, "source[0].codec", "did you mean `scaled`"),
    ],
)
def test_what_is_wrong_with_them_is_told_like_anything_else(tmp_path, changes, where, message):
    (tmp_path / "agent.toml").write_text(board(tmp_path / "temp", **changes))
    with pytest.raises(ConfigurationError) as caught:
        load_config(tmp_path / "agent.toml", catalogue())
    assert message in {problem.where: problem.message for problem in caught.value.problems}[where]


def brought(folder: Path, group: str, name: str, target: str) -> None:
    """A package in whose metadata this stands."""
    info = folder / "broken-2.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 2.0\n")
    with (info / "entry_points.txt").open("a") as file:
        file.write(f"[{group}]\n{name} = {target}\n")


def test_a_package_that_does_not_work_harms_no_other_and_is_told(tmp_path):
    (tmp_path / "half.py").write_text(
        "from drivers.registry import Driver\n"
        "D = Driver(config='drivers.simulated.config:SimulatedConfig', source='no_such_library:S', summary='', example='')\n"
    )
    (tmp_path / "script.py").write_text("import sys\nsys.exit('no hardware')\n")
    (tmp_path / "silent.py").write_text(
        "from typing import Literal\nfrom drivers.codecs import CodecConfig\n"
        "class Mute(CodecConfig):\n    type: Literal['mute'] = 'mute'\n"
    )
    brought(tmp_path, "outstation.framings", "ends", "script:X")
    brought(tmp_path, "outstation.codecs", "mute", "silent:Mute")
    brought(tmp_path, "outstation.drivers", "gone", "no_such_module:X")
    brought(tmp_path, "outstation.drivers", "strange", "json:loads")
    brought(tmp_path, "outstation.drivers", "half", "half:D")
    brought(tmp_path, "outstation.codecs", "odd", "json:loads")
    listed = outstation("drivers", folder=tmp_path)
    assert listed.returncode == 1
    for told in (
        "gone (broken 2.0): CANNOT BE USED: 'gone' of broken 2.0 cannot be loaded: ModuleNotFoundError",
        "strange (broken 2.0): CANNOT BE USED: 'strange' of broken 2.0 is no drivers.registry.Driver",
        "half (broken 2.0): CANNOT BE USED: the driver 'half' cannot be loaded: no_such_library:S",
        "odd (broken 2.0): CANNOT BE USED: 'odd' (json:loads) is no subclass of CodecConfig",
        "ends (broken 2.0): CANNOT BE USED: 'ends' of broken 2.0 cannot be loaded: SystemExit: no hardware",
        "mute (broken 2.0): CANNOT BE USED: 'mute' (silent:Mute) has no `summary`",
        "frames from a serial port",
    ):
        assert told in listed.stdout
    (tmp_path / "agent.toml").write_text('[[source]]\nid = "a"\ndriver = "half"\n')
    wrong = outstation("run", "--config", tmp_path / "agent.toml", folder=tmp_path)
    assert wrong.returncode == 2
    assert "source[0].driver: the driver 'half' cannot be loaded" in wrong.stderr


def test_a_name_of_our_own_is_never_taken(tmp_path):
    brought(tmp_path, "outstation.drivers", "simulated", "no_such_module:X")
    listed = outstation("drivers", "simulated", folder=tmp_path)
    assert listed.returncode == 0
    assert "  simulated: made-up readings" in listed.stdout


def test_the_page_names_what_there_is():
    text = PAGE.read_text()
    for file in EXAMPLE.rglob("*.py"):
        assert f"(example-driver/{file.relative_to(EXAMPLE)})" in text
    for name in re.findall(r"`(collectors\.[a-z_.]+|drivers\.[a-z_.]+)`", text):
        __import__(name)


def test_its_source_fulfils_the_interface():
    assert issubclass(load_source_class("sysfs"), IDataSource)
    assert driver("sysfs").summary


# The framing and the codec hold to what all hold to.

PAYLOADS = st.lists(st.binary(max_size=60), max_size=8)
CUTS = st.lists(st.integers(0, 5000), max_size=20)


@settings(max_examples=50)
@given(payloads=PAYLOADS, cuts=CUTS, garbage=binary(max_size=50))
def test_its_messages_come_out_once_in_order_and_whatever_lies_between(payloads, cuts, garbage):
    config = FRAMINGS.choose("modbus_ascii")
    stream = b"".join(garbage + b"\r\n" + config.encode(payload) for payload in payloads)
    found = iter(good(run(config.framer(), chunked(stream, cuts))))
    assert all(payload in found for payload in payloads)
    assert run(config.framer(), [stream]) == run(config.framer(), chunked(stream, cuts))


def test_the_example_of_the_standard():
    # Read 13 holding registers from 0x0013 of device 17.
    assert FRAMINGS.choose("modbus_ascii").encode(bytes.fromhex("11030013000D")) == b":11030013000DCC\r\n"


@settings(max_examples=50)
@given(st.binary(max_size=30) | st.from_regex(rb"[+-]?[0-9]+", fullmatch=True))
def test_its_codec_decodes_or_explains(raw):
    checked(CODECS.choose({"type": "scaled", "metric": "t", "factor": 0.001}).codec(), raw)
