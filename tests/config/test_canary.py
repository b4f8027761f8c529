"""A canary in the place of every secret, and of what may be mistaken for one: it is sung by no output."""

from __future__ import annotations

import contextlib
import io
import json
import os
import traceback
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.cli import main
from agent.composition import catalogue
from agent.composition.schema import configuration_schema
from agent.config import ConfigurationError, load_config

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "c4nary-5esame"

MQTT_SOURCE = '[[source]]\nid = "house"\ndriver = "mqtt"\nurl = "{url}"\ntopics = ["a/#"]\nusername = "u"\n'
BLE_SOURCE = '[[source]]\nid = "hall"\ndriver = "ble"\naddress = "A4:C1:38:12:34:56"\n'
MQTT = '[[upstream]]\nname = "m"\ndriver = "mqtt"\nurl = "{url}"\nusername = "u"\n'
HTTP = '[[upstream]]\nname = "h"\ndriver = "http"\nurl = "{url}"\n'
SIMULATED = '[[source]]\nid = "s"\ndriver = "simulated"\n'

places = st.sampled_from(
    [
        '{ file = "word" }',
        '{ env = "CANARY_PLACE" }',
        '{ credential = "word" }',
        # Mistakes that put the secret itself there.
        f'"{CANARY}"',
        f"{{ value = '{CANARY}' }}",
        f"{{ env = '{CANARY}' }}",
        f"{{ file = 'word', value = '{CANARY}' }}",
        f"['{CANARY}']",
        f"{{ file = ['{CANARY}'] }}",
        CANARY,  # without quotes: no TOML
        f'"{CANARY}',
    ]
)
brokers = st.sampled_from(
    [
        "mqtt://broker",
        "mqtts://broker",
        f"mqtt://u:{CANARY}@broker",
        f"mqtts://:{CANARY}@broker:99999",
        f"x://u:{CANARY}@y",
    ]
)
servers = st.sampled_from(
    [
        "https://cloud/x",
        f"https://u:{CANARY}@cloud/x",
        f"ftp://u:{CANARY}@cloud/x",
        f"https://u:{CANARY}@cloud:x/",
    ]
)


@st.composite
def configurations(draw):
    """One with a secret or two, right or wrong in one way or another."""
    place = draw(places)
    kind = draw(st.sampled_from(["source", "key", "mqtt", "token", "tls"]))
    key = {
        "source": ["password", "pasword", "passwd", "password_file"],
        "key": ["key", "bindkey", "kye"],
        "mqtt": ["password", "Password", "passphrase"],
        "token": ["token", "tokn", "api_token", "secret"],
        "tls": ["key", "private_key", "key_file"],
    }[kind]
    entry = f"{draw(st.sampled_from(key))} = {place}"
    table = {
        "source": MQTT_SOURCE.format(url=draw(brokers)) + entry,
        "key": BLE_SOURCE + f'codec = {{ type = "bthome", {entry} }}',
        "mqtt": MQTT.format(url=draw(brokers)) + entry,
        "token": HTTP.format(url=draw(servers)) + entry,
        "tls": MQTT.format(url="mqtts://broker") + f'cert_file = "word"\n{entry}',
    }[kind]
    spoilt = draw(st.sampled_from(["", "", "", "[buffer]\nquota = 1\n", "[buffer\n", 'x = "y"\n']))
    return f"{SIMULATED}{table}\n{spoilt}"


def everything_said(path: Path) -> str:
    """All that loading it, right or wrong, makes somebody say."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        for command in ("check", "status"):
            main([command, "--config", str(path)])
    for checks in ({}, {"check_files": True}, {"note_secrets": True}):
        try:
            config = load_config(path, catalogue(), **checks)
        except ConfigurationError as error:
            said.write("".join(traceback.format_exception(error)) + repr(error) + repr(error.problems))
        else:
            said.write(
                f"{config!r} {config} {config.model_dump_json(serialize_as_any=True)} {config.__dict__}"
            )
            for part in (*config.source, *config.upstream):
                said.write(f"{part.options!r}{part.options.__dict__}")
    return said.getvalue()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(configurations())
def test_no_command_message_or_object_shows_a_secret(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("canary")
    (folder / "word").write_text(CANARY)
    path = folder / "outstation.toml"
    path.write_text(text)
    kept = {name: os.environ.get(name) for name in ("CANARY_PLACE", "CREDENTIALS_DIRECTORY")}
    os.environ.update(CANARY_PLACE=CANARY, CREDENTIALS_DIRECTORY=str(folder))
    try:
        said = everything_said(path)
    finally:
        for name, value in kept.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
    assert "outstation.toml" in said
    assert CANARY not in said


def test_the_schema_knows_no_secret(monkeypatch):
    monkeypatch.setenv("CANARY_PLACE", CANARY)
    assert CANARY not in json.dumps(configuration_schema())
