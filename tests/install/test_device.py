"""install.sh on a device: a booted Debian in a container, a bundle, and nothing else; no network."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.install.checkout import REPOSITORY
from tests.rigs.machine.bundles import another_release, make_bundle
from tests.rigs.machine.container import Container
from tests.rigs.machine.device import CONFIGURATION, PENDING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(os.geteuid() != 0, reason="containers are booted as root"),
]

SENSORS = """
[[source]]
id = "house"
driver = "simulated"
rate = 50
signals = [{ name = "temperature", kind = "sine", mean = 21, amplitude = 3 }]

[buffer]
path = "/var/lib/outstation/buffer"
"""
INSTALL = ("preflight", "release", "user", "configuration", "rules", "units", "current", "start", "doctor")
UPGRADE = (
    *("preflight", "release", "user", "self_test", "pending", "current"),
    *("rules", "units", "restart", "settle", "tidy"),
)
RULES = "/etc/udev/rules.d/60-outstation.rules"
DIES = "import sys\n\n\ndef main(arguments):\n    sys.exit(7)\n"
"""An `outstation run` that does not run."""

HURRIES = """
mkdir /etc/systemd/system/outstation.service.d
printf '[Service]\\nRestartSec=1\\n' >/etc/systemd/system/outstation.service.d/hurry.conf
"""
"""systemd starts an agent that ended again after a second, not after five."""

MOVES_TO_A_PARTITION = """
mkdir /srv/dead
: >/srv/card  # no folder, so that it cannot be mounted
mv /var/lib/outstation/* /srv/dead/
chown outstation:outstation /srv/dead
echo '/srv/card /var/lib/outstation none bind,nofail 0 0' >>/etc/fstab
"""
"""The buffer lies on another file system from the next boot on; that is not there."""

DEAF = """

async def _connect(self):
    raise ConnectionError("it cannot be done any more")


SimulatedSource.connect = _connect
"""
"""What makes a driver one that never connects."""

HANGS_UP = """
sh /mnt/bundles/bad/install.sh upgrade >/tmp/log 2>&1 &
until grep -q 'seeing whether' /tmp/log; do sleep 0.1; done
kill -HUP $!
wait $! || [ $? -eq 130 ]
[ -f /opt/outstation/pending ]
"""


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles")
    first = make_bundle(folder / "first")
    another_release(first, folder / "second")
    another_release(first, folder / "bad", {"agent/cli/run.py": DIES})
    driver = "drivers/simulated/source.py"
    another_release(first, folder / "deaf", {driver: (REPOSITORY / driver).read_text() + DEAF})
    shutil.copytree(first, folder / "damaged")
    (folder / "damaged/README.md").write_text("something else")
    (folder / "sensors.toml").write_text(SENSORS)
    return folder


@pytest.fixture
def blank(tmp_path: Path, bundles: Path) -> Iterator[Container]:
    """A device with nothing of ours."""
    with Container(tmp_path, bundles / "first", {"/mnt/bundles": bundles}) as device:
        yield device


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, bundles: Path) -> Path:
    """What an installation changes."""
    with Container(
        tmp_path_factory.mktemp("installed"), bundles / "first", {"/mnt/bundles": bundles}
    ) as device:
        install(device)
        device.collects()
        device.run("sh", "-c", HURRIES)
    return device.changes


@pytest.fixture
def device(tmp_path: Path, bundles: Path, installed: Path) -> Iterator[Container]:
    """A device on which the first release runs."""
    with Container(tmp_path, bundles / "first", {"/mnt/bundles": bundles}, installed) as device:
        yield device


def install(device: Container) -> None:
    device.install_from("/mnt/bundle", "--config", "/mnt/bundles/sensors.toml")


def test_a_device_is_installed_upgraded_and_cleared(blank: Container) -> None:
    install(blank)
    stored = blank.collects()
    first = blank.release
    assert blank.releases == {first}
    assert blank.run("systemctl", "is-enabled", "outstation").stdout.strip() == "enabled"

    again = blank.install_from("/mnt/bundle").stdout
    assert "is there already" in again
    assert "left as it is" in again
    assert blank.property("NRestarts") == "0"
    assert blank.collects(stored) > stored

    upgraded = blank.install_from("/mnt/bundles/second", "upgrade").stdout
    assert "self-test: passed" in upgraded
    assert blank.release != first
    assert blank.releases == {first, blank.release}
    assert not blank.exists(PENDING)
    stored = blank.collects(stored)

    for order in ("disable", "enable"):
        blank.run("systemctl", order, "outstation")
    blank.cut()
    blank.boot()
    stored = blank.collects(stored)
    assert blank.install_from("/mnt/bundles/second", "upgrade").stdout.count("installed already") == 1

    blank.run("/opt/outstation/current/install.sh", "uninstall")
    assert blank.release is None
    for kept in ("/var/lib/outstation/buffer/readings", CONFIGURATION):
        assert blank.exists(kept)
    assert blank.run("which", "outstation", check=False).returncode == 1
    install(blank)
    blank.collects(stored)
    blank.run("/opt/outstation/current/install.sh", "uninstall", "--purge")
    for gone in ("/var/lib/outstation", "/etc/outstation", "/opt/outstation"):
        assert not blank.exists(gone)
    assert blank.run("getent", "passwd", "outstation", check=False).returncode != 0


def test_a_buffer_whose_partition_is_dead_is_said_and_taken_up_once_it_is_back(device: Container) -> None:
    device.run("outstation", "status")
    stored = device.collects()
    device.run("systemctl", "stop", "outstation")
    device.run("sh", "-c", MOVES_TO_A_PARTITION)
    device.cut()
    device.boot()
    assert device.property("ActiveState", "var-lib-outstation.mount") == "failed"
    said = "/srv/card, which /etc/fstab has at /var/lib/outstation, is not mounted"
    device.run("sh", "-c", "until systemctl is-active --quiet outstation; do sleep 0.1; done")
    assert device.run("outstation", "status").stdout.startswith("buffer: NOT STORING: it does not open: ")
    for place in (("outstation", "status"), ("systemctl", "status", "outstation"), ("outstation", "doctor")):
        assert said in device.run(*place, check=False).stdout
    assert said in device.run("journalctl", "-u", "outstation", "-p", "err", "--no-pager").stdout
    assert device.install_from("/mnt/bundles/second", "upgrade", check=False).stdout.count(said) == 1
    assert device.run("ls", "-A", "/var/lib/outstation").stdout == "", (
        "nothing is written below the partition"
    )

    device.run("sh", "-c", "rm /srv/card; mv /srv/dead /srv/card")
    device.run("systemctl", "start", "var-lib-outstation.mount")
    assert device.collects(stored) > stored
    assert device.property("NRestarts") == "0"
    device.run("outstation", "buffer", "verify", "/var/lib/outstation/buffer")
    assert device.exists("/srv/card/buffer/readings")


def test_a_release_that_does_not_run_is_left_again(device: Container) -> None:
    stored = device.collects()
    first = device.release
    done = device.install_from("/mnt/bundles/bad", "upgrade", check=False)
    assert done.returncode == 1
    assert f"failed; {first} runs again" in done.stdout
    assert device.release == first
    device.collects(stored)


def test_a_release_that_runs_and_collects_nothing_is_left_again(device: Container) -> None:
    stored = device.collects()
    first = device.release
    done = device.install_from("/mnt/bundles/deaf", "upgrade", check=False)
    assert done.returncode == 1
    assert "source house worked before, and now: link down" in done.stdout
    assert f"failed; {first} runs again" in done.stdout
    device.collects(stored)
    assert not device.exists(f"{PENDING}.before")


def test_power_goes_while_a_release_that_does_not_run_is_not_settled(device: Container) -> None:
    stored = device.collects()
    first = device.release
    device.install_from("/mnt/bundles/bad", "upgrade", check=False, kill_at="settle")
    assert device.release != first
    device.cut()
    device.boot()
    device.collects(stored, within_s=150)
    assert device.release == first
    assert not device.exists(PENDING)


def test_the_terminal_goes_away_while_a_release_that_does_not_run_is_not_settled(device: Container) -> None:
    stored = device.collects()
    first = device.release
    device.run("sh", "-c", HANGS_UP)
    device.run("sh", "-c", f"while [ -f {PENDING} ]; do sleep 0.1; done", timeout_s=150)
    assert device.release == first
    device.collects(stored)


def test_every_step_of_an_installation_is_killed(blank: Container) -> None:
    listed = blank.install_from("/mnt/bundle", "install", "--list-steps").stdout.split()
    assert tuple(listed) == INSTALL
    for step in INSTALL:
        done = blank.install_from(
            "/mnt/bundle", "--config", "/mnt/bundles/sensors.toml", check=False, kill_at=step
        )
        assert done.returncode != 0
        assert f"{listed.index(step) + 1}/{len(listed)}" in done.stdout
    install(blank)
    blank.collects()


@pytest.mark.timeout(900)  # a dozen upgrades, on a machine that may be busy
def test_every_step_of_an_upgrade_is_killed(device: Container) -> None:
    assert tuple(device.install_from("/mnt/bundle", "upgrade", "--list-steps").stdout.split()) == UPGRADE
    stored = device.collects()
    bundle, other = "/mnt/bundles/second", "/mnt/bundles/first"
    for number, step in enumerate(UPGRADE, 1):
        before = device.release
        device.run("rm", "-f", RULES)
        killed = device.install_from(bundle, "upgrade", check=False, kill_at=step)
        assert killed.returncode != 0
        assert f"[{number}/{len(UPGRADE)}]" in killed.stdout, "it came so far"
        stored = device.collects(stored)
        if number <= UPGRADE.index("current") + 1:
            assert device.release == before
            continue
        done = device.install_from(bundle, "upgrade").stdout
        assert "installed already" in done
        assert device.release == device.running_release != before
        assert device.exists(RULES)
        assert not device.exists(PENDING)
        stored = device.collects(stored)
        bundle, other = other, bundle


def test_what_stands_in_the_way_is_said(blank: Container) -> None:
    damaged = blank.install_from("/mnt/bundles/damaged", check=False)
    assert damaged.returncode == 1
    assert "this bundle was changed or damaged" in damaged.stdout
    assert (
        "nothing is installed that could be upgraded"
        in blank.install_from("/mnt/bundle", "upgrade", check=False).stdout
    )
    assert (
        "there is no such extra" in blank.install_from("/mnt/bundle", "--with", "radio", check=False).stdout
    )
    blank.install_from("/mnt/bundle")
    started = blank.run("systemctl", "is-active", "outstation", check=False).stdout.strip()
    assert started == "inactive", "the first configuration names no sensor yet"
    other = blank.install_from("/mnt/bundles/second", check=False)
    assert other.returncode == 1
    assert "sudo ./install.sh upgrade" in other.stdout
