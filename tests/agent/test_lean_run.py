"""A Pi's memory is small: `run` loads nothing that its configuration does not use."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """\
[device]
id = "pi"

[[source]]
id = "soil"
driver = "serial"
port = "/dev/not-there"

[[source]]
id = "hall"
driver = "mqtt"
url = "mqtt://127.0.0.1:9"
topics = ["sensors/#"]

[buffer]
path = "buffer"

[[upstream]]
driver = "mqtt"
url = "mqtt://127.0.0.1:9"
"""
NOT_NEEDED = {
    "agent.demo",
    "agent.receiver",
    "agent.sync.http_upstream",
    "_ssl",
    "aiohttp",
    "bleak",
    "collectors.examples",
    "collectors.mocks",
    "cryptography",
    "csv",
    "dbus_fast",
    "drivers.ble",
    "drivers.codecs.sensor_state",
    "drivers.simulated",
    "email",
    "encodings.idna",
    "http",
    "hypothesis",
    "importlib.metadata._meta",
    "multiprocessing",
    "pytest",
    "rich",
    "shutil",
    "sqlite3",
    "tempfile",
    "unittest",
    "zipfile",
}


def test_run_with_serial_and_mqtt_loads_nothing_that_it_does_not_use(tmp_path):
    config = tmp_path / "agent.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-X", "importtime", "-m", "agent", "run", "--config", str(config)]
    imported = set()
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as agent:
        for line in agent.stderr:
            if found := re.match(r"import time:.*\| +(\S+)$", line):
                imported.add(found[1])
            elif "collects from 2 sources" in line:
                libraries = Path(f"/proc/{agent.pid}/maps").read_text()
                agent.terminate()
    assert agent.returncode == 0
    assert {"aiomqtt", "serial", "agent.sync.mqtt_upstream"} <= imported
    assert {name for name in NOT_NEEDED if name in imported} == set()
    assert "libcrypto" not in libraries, "OpenSSL, though nothing is encrypted"
