"""What install.sh's parts write and read, by themselves: names and passwords of any kind, extras, bundles, options."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.install.checkout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

NETWORKS = ("Garden", r"back\slash", ' two  "words" ', r"$(reboot)`;%s\n", "Grün")
PRELUDE = """
set -eu
# install.sh without its last line, which runs it.
eval "$(sed '$d' "$ROOT/install.sh")"
. "$ROOT/deploy/device.sh"
. "$ROOT/deploy/flash.sh"
"""


def shell(script: str, *arguments: str, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it in a shell that knows the functions of device.sh and flash.sh."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROOT": str(REPOSITORY)}
    return subprocess.run(
        ["sh", "-c", PRELUDE + script, "sh", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment | {name: str(value) for name, value in variables.items()},
    )


def of_keyfile(value: str) -> str:
    """What GKeyFile makes of a value: its escapes are resolved, leading spaces dropped."""
    escapes = {"\\": "\\", "s": " ", "n": "\n", "t": "\t", "r": "\r"}
    characters = iter(value.lstrip(" "))
    return "".join(escapes[next(characters)] if character == "\\" else character for character in characters)


@pytest.fixture
def card(tmp_path: Path) -> Path:
    """The files of a card, mounted."""
    for folder in ("boot", "root/usr/bin", "root/var/lib/systemd/rfkill", "root/var/lib/NetworkManager"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("password", ["correct horse", r"a\b c\\d ", ' 1"2;3=4#'])
def test_any_network_and_password_reaches_network_manager(card: Path, network: str, password: str) -> None:
    done = shell(
        "hostname='' user='' wifi_country=''; work=$CARD files=$CARD/root; prepare_directly",
        CARD=card,
        wifi=network,
        wifi_password=password,
    )
    assert done.returncode == 0, done.stderr
    made = card / "root/etc/NetworkManager/system-connections/wifi.nmconnection"
    values = dict(line.split("=", 1) for line in made.read_text().splitlines() if "=" in line)
    assert of_keyfile(values["ssid"]) == network
    assert of_keyfile(values["psk"]) == password
    assert made.stat().st_mode & 0o777 == 0o600


def test_the_radio_is_switched_on(card: Path) -> None:
    state = card / "root/var/lib/NetworkManager/NetworkManager.state"
    state.write_text("[main]\nWirelessEnabled=false\n")
    blocked = card / "root/var/lib/systemd/rfkill/platform-fe300000.mmcnr:wlan"
    blocked.write_text("1\n")
    assert shell("files=$CARD/root; switch_wifi_on", CARD=card).returncode == 0
    assert state.read_text() == "[main]\nWirelessEnabled=true\n"
    assert blocked.read_text() == "0\n"
    state.unlink()
    blocked.unlink()
    assert shell("files=$CARD/root; switch_wifi_on", CARD=card).returncode == 0


def test_a_bundle_for_another_python_is_refused(card: Path) -> None:
    (card / "wheels").mkdir()
    (card / "wheels/pydantic_core-2.0-cp311-cp311-manylinux_2_17_aarch64.whl").touch()
    python = card / "root/usr/bin/python3"
    script = "files=$CARD/root bundle=$CARD image=raspios.img; check_bundle_fits"
    python.symlink_to("python3.13")
    done = shell(script, CARD=card)
    assert done.returncode == 1
    assert "is not for Python 3.13, which raspios.img has" in done.stderr
    python.unlink()
    assert shell(script, CARD=card).returncode == 0, "an image without one says nothing"
    python.symlink_to("python3.11")
    assert shell(script, CARD=card).returncode == 0


@pytest.mark.parametrize(
    ("installed", "bundled", "given", "taken"),
    [
        (None, None, [], ""),
        (None, "ble", [], "ble"),
        ("http", "ble", [], "http"),
        ("", "ble", [], ""),
        ("http", "ble", ["--with", "http,ble"], "ble,http"),
        ("http", "ble", ["--with", "ble,http"], "ble,http"),
        ("http", "ble", ["--with", "http,,ble http"], "ble,http"),
    ],
)
def test_which_extras_are_installed(
    tmp_path: Path, installed: str | None, bundled: str | None, given: list[str], taken: str
) -> None:
    for folder, extras in (("current", installed), ("bundle", bundled)):
        (tmp_path / folder).mkdir()
        if extras is not None:
            (tmp_path / folder / "extras").write_text(extras + "\n")
    done = shell(
        'check_extras() { :; }; current=$FOLDER/current root=$FOLDER/bundle; parse_device_options "$@"; echo "$with"',
        *given,
        FOLDER=tmp_path,
    )
    assert done.stdout == taken + "\n", done.stderr


def test_a_clock_that_is_set_does_not_hurry_a_release(tmp_path: Path) -> None:
    script = """
    current=$FOLDER/current STEADY_S=0
    now() { echo x >>"$FOLDER/looks"; echo $(($(wc -l <"$FOLDER/looks") * 3600)); }
    systemctl() { :; }
    restarts() { echo 0; }
    answers() { :; }
    does_its_work
    """
    assert shell(script, FOLDER=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("enabled", "active", "restarted"), [(0, 0, True), (0, 3, True), (1, 0, True), (1, 3, False)]
)
def test_a_service_that_is_switched_off_stays_so(enabled: int, active: int, *, restarted: bool) -> None:
    script = """
    say() { :; }
    systemctl() {
        case $* in
        *is-enabled*) return "$ENABLED" ;;
        *is-active*) return "$ACTIVE" ;;
        *) echo "$*" ;;
        esac
    }
    step_restart
    """
    done = shell(script, ENABLED=str(enabled), ACTIVE=str(active))
    assert done.returncode == 0
    assert ("restart outstation.service" in done.stdout) is restarted


def test_an_upgrade_that_is_broken_off_is_settled_by_the_service(tmp_path: Path) -> None:
    script = 'pending=$FOLDER/pending command=$1; systemctl() { echo "$*"; }; clean_up'
    assert shell(script, "upgrade", FOLDER=tmp_path).stdout == ""
    (tmp_path / "pending").write_text("0.1.0-before\n")
    assert "start outstation-settle.service" in shell(script, "upgrade", FOLDER=tmp_path).stdout
    assert shell(script, "settle", FOLDER=tmp_path).stdout == ""
