"""The service under a real systemd: hardened, with a serial sensor; killed, frozen, and on a card that does not open."""

from __future__ import annotations

import json
import os
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.install.checkout import REPOSITORY
from tests.rigs.machine.bundles import make_bundle
from tests.rigs.machine.container import Container
from tests.rigs.machine.device import CONFIGURATION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

UNIT = REPOSITORY / "deploy/outstation.service"
UNITS = ("outstation.service", "outstation-settle.service", "outstation-first-boot.service")
EXPOSURE_MAX = 18
"""Tenths, as `systemd-analyze security` counts."""
SENSOR = "/var/lib/outstation/sensor"
SERIAL = f"""
[[source]]
id = "soil"
driver = "serial"
port = "{SENSOR}"
codec = "json"

[buffer]
path = "/var/lib/outstation/buffer"

[[upstream]]
name = "cloud"
driver = "mqtt"
url = "mqtt://127.0.0.1:1"
username = "station"
password = {{ credential = "broker" }}
"""
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="containers are booted as root")


def test_the_unit_may_do_little() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE_MAX}", UNIT],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_nothing_wrong_with_a_unit(name: str, tmp_path: Path) -> None:
    # The programs are not installed here: a stand-in is named instead.
    text = (REPOSITORY / "deploy" / name).read_text()
    lines = [
        "ExecStart=/bin/true" if line.startswith("ExecStart=") else line
        for line in text.splitlines()
        if not line.startswith("Documentation=")
    ]
    (tmp_path / name).write_text("\n".join(lines))
    for other in UNITS:
        if other != name:
            (tmp_path / other).write_text("[Service]\nExecStart=/bin/true\n")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", tmp_path / name],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("unit")
    shown = folder / "shown"
    shown.mkdir()
    (shown / "serial.toml").write_text(SERIAL)
    pieces = [
        {"t": n / 50, "rx": json.dumps({"n": n, "temperature": 20 + n % 7}) + "\n"} for n in range(10_000)
    ]
    header = {
        "capture": 1,
        "started": "2026-05-01T10:00:00+00:00",
        "port": "/dev/ttyUSB0",
        "baudrate": 115200,
    }
    (shown / "sensor.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *pieces)))
    with Container(folder, make_bundle(folder / "bundle"), {"/mnt/shown": shown}) as device:
        device.install_from("/mnt/bundle")
        device.run("sh", "-c", "echo sesame >/etc/outstation/secrets/broker")
        device.run("cp", "/mnt/shown/serial.toml", CONFIGURATION)
        device.run("chown", "root:outstation", CONFIGURATION)
        device.run("outstation", "check")
        player = ("outstation", "play", "/mnt/shown/sensor.jsonl", "--link", SENSOR)
        device.run("systemd-run", "--uid=outstation", *player)
        device.run("systemctl", "start", "outstation")
        yield device


def eventually(condition: Callable[[], object], what: str, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


@as_root
@pytest.mark.slow
@pytest.mark.timeout(300)
class TestRunning:
    def test_a_serial_sensor_is_read_and_the_secret_is_handed_over(self, device: Container) -> None:
        device.collects(50)
        report = device.status()
        assert report is not None
        assert report["sources"][0]["condition"] == "ok"
        assert "Status:" in device.run("systemctl", "status", "outstation").stdout
        # Nobody listens there; what is said is that, not that the password is missing.
        (upstream,) = report["upstreams"]
        assert "credential" not in (upstream["holding_back"] or "")

    def test_killed_it_comes_back(self, device: Container) -> None:
        stored = device.collects()
        device.run("systemctl", "kill", "--signal=KILL", "outstation")
        device.collects(stored)
        assert device.property("NRestarts") == "1"

    def test_frozen_it_is_started_again(self, device: Container) -> None:
        stored = device.collects()
        restarts = int(device.property("NRestarts"))
        folder = "/run/systemd/system/outstation.service.d"
        hurry = "[Service]\\nWatchdogSec=3\\nTimeoutAbortSec=2\\nRestartSec=0"
        device.run("sh", "-c", f"mkdir -p {folder}; printf '{hurry}\\n' >{folder}/hurry.conf")
        device.run("systemctl", "daemon-reload")
        device.run("systemctl", "restart", "outstation")
        stored = device.collects(stored)
        device.run("kill", "-STOP", device.property("MainPID"))
        eventually(lambda: int(device.property("NRestarts")) != 0, "the watchdog does not bite")
        device.collects(stored)
        assert restarts >= 0

    def test_a_reload_is_no_restart(self, device: Container) -> None:
        pid = device.property("MainPID")
        device.run("systemctl", "reload", "outstation")
        device.collects(device.collects())
        assert device.property("MainPID") == pid

    def test_a_wrong_configuration_stops_it_until_it_is_mended(self, device: Container) -> None:
        stored = device.collects()
        device.run("sh", "-c", f"echo 'colour = 1' >>{CONFIGURATION}")
        device.run("systemctl", "restart", "outstation", check=False)
        eventually(lambda: device.property("ActiveState") == "failed", "it is not failed")
        assert device.property("NRestarts") == "0"
        device.run("cp", "/mnt/shown/serial.toml", CONFIGURATION)
        device.run("systemctl", "start", "outstation")
        device.collects(stored)

    def test_a_card_that_does_not_open_is_said_and_not_restarted(self, device: Container) -> None:
        device.run("systemctl", "stop", "outstation")
        device.run("mv", "/var/lib/outstation/buffer", "/var/lib/outstation/away")
        device.run("sh", "-c", "echo no folder >/var/lib/outstation/buffer")
        device.run("systemctl", "start", "outstation")
        assert device.property("ActiveState") == "active"
        eventually(lambda: "NOT STORING" in device.property("StatusText"), device.property("StatusText"))
        device.run("rm", "/var/lib/outstation/buffer")
        device.run("mv", "/var/lib/outstation/away", "/var/lib/outstation/buffer")
        device.collects()
        assert device.property("NRestarts") == "0"
