"""What install.sh's parts write and read, by themselves: names and passwords of any kind, extras, bundles, options."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
import tinydb

from tests.install.checkout import REPOSITORY
from tests.install.functions import shell

NETWORKS = ("Garden", r"back\slash", ' two  "words" ', r"$(reboot)`;%s\n", "Grün")


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


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """As far as its own package goes."""
    wheels = tmp_path / "bundle/wheels"
    wheels.mkdir(parents=True)
    with zipfile.ZipFile(wheels / "outstation-0.1.0-py3-none-any.whl", "w") as wheel:
        for place, packages in (
            (REPOSITORY, ("agent", "buffer", "collectors", "drivers")),
            (Path(tinydb.__file__).parents[1], ("tinydb", "paho", "aiomqtt")),
        ):
            for file in (file for package in packages for file in (place / package).rglob("*.py")):
                wheel.write(file, file.relative_to(place))
    with zipfile.ZipFile(wheels / "bleak-3.1.0-py3-none-any.whl", "w") as wheel:
        for package in ("bleak", "bthome_ble"):
            wheel.writestr(f"{package}/__init__.py", "")
    return tmp_path / "bundle"


CHECKS = """
python=$(command -v "$PYTHON") venv=$VENV work=$WORK secret_files=$WORK/secrets
venv_fits() { :; }
check_config
"""
UPSTREAM = """
[[source]]
id = "house"
driver = "simulated"
signals = [{ name = "temperature", kind = "sine" }]

[[upstream]]
name = "cloud"
driver = "mqtt"
url = "mqtts://broker.example.com:8883"
ca_file = "/etc/outstation/secrets/ca.pem"
password = { credential = "broker" }
username = "station"
"""

BLUETOOTH = """
[[source]]
id = "hall"
driver = "ble"
address = "A4:C1:38:12:34:56"
codec = "bthome"

[[upstream]]"""
"""The bundle has what it takes, whatever this machine has."""


@pytest.mark.parametrize(
    ("missing", "change", "says"),
    [
        (None, ("", ""), ""),
        ("broker", ("", ""), "broker"),
        ("ca.pem", ("", ""), "there is no file /etc/outstation/secrets/ca.pem"),
        (None, ("simulated", "simulatd"), "simulatd"),
        (None, ('"mqtt"\nurl = "mqtts:', '"http"\nurl = "https:'), "outstation[http]"),
        (None, ("[[upstream]]", BLUETOOTH), ""),
    ],
)
def test_a_configuration_is_checked_as_the_device_will(
    tmp_path: Path, bundle: Path, missing: str | None, change: tuple[str, str], says: str
) -> None:
    (tmp_path / "secrets").mkdir()
    for name in {"ca.pem", "broker"} - {missing}:
        (tmp_path / "secrets" / name).write_text("sesame\n")
    config = tmp_path / "my.toml"
    config.write_text(UPSTREAM.replace(*change) if change[0] else UPSTREAM)
    done = shell(CHECKS, config=config, bundle=bundle, WORK=tmp_path, PYTHON=sys.executable, VENV=sys.prefix)
    assert done.returncode == (1 if says else 0), done.stderr
    assert says in done.stderr
    assert not says or f"the device would not accept {config}" in done.stderr


def test_a_configuration_that_nobody_here_can_check_is_not_taken(tmp_path: Path, bundle: Path) -> None:
    (tmp_path / "my.toml").write_text(UPSTREAM)
    fake = tmp_path / "python"
    fake.write_text(f'#!/bin/sh\ncase "$*" in *install*) exit 1 ;; esac\nexec {sys.executable} "$@"\n')
    fake.chmod(0o755)
    done = shell(
        "python=$FAKE work=$WORK secret_files= venv=/nowhere; check_config",
        config=tmp_path / "my.toml",
        bundle=bundle,
        WORK=tmp_path,
        FAKE=fake,
    )
    assert done.returncode == 1
    assert "cannot be found out here" in done.stderr


LSBLK = """
sys=$SYS device=/dev/null
readlink() { echo "$DISK"; }
lsblk() {
    case $* in
    *'TYPE '*) case $1 in -dno) echo disk ;; *) echo "$TYPES" ;; esac ;;
    *RM,HOTPLUG*) echo "${RM:- 1       1}" ;;
    *MOUNTPOINT*) printf '%b' "$MOUNTED" ;;
    *SIZE*) echo 31914983424 SU32G ;;
    esac
}
"""


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ""),
        ({"RM": " 0       0"}, "cannot be taken out"),
        ({"RM": " 0       0", "DISK": "/dev/mmcblk0", "KIND": "SD"}, ""),
        ({"RM": " 0       0", "DISK": "/dev/mmcblk0", "KIND": "MMC"}, "soldered memory (eMMC)"),
        ({"RM": " 0       0", "DISK": "/dev/mmcblk0boot1"}, "a part of a soldered memory"),
        ({"MOUNTED": "\\n/boot/firmware\\n/\\n"}, "in use by this system (/boot/firmware / )"),
        ({"MOUNTED": "[SWAP]\\n"}, "in use by this system ([SWAP] )"),
        ({"MOUNTED": "/media/ada/rootfs\\n"}, "sudo umount /media/ada/rootfs"),
        ({"TYPES": "disk\npart\nlvm\nraid1"}, "something is made of it (lvm raid1)"),
    ],
)
def test_which_disks_are_written(tmp_path: Path, changes: dict[str, str], says: str) -> None:
    variables = {"DISK": "/dev/sdx", "TYPES": "disk\npart", "MOUNTED": "", "RM": "", "KIND": "SD"} | changes
    kind = tmp_path / "block" / variables["DISK"].removeprefix("/dev/") / "device/type"
    kind.parent.mkdir(parents=True)
    kind.write_text(variables.pop("KIND") + "\n")
    # A block device that is there on any machine is none on some: `[ -b ]` is asked of what the test says.
    script = (
        LSBLK
        + 'eval "$(sed -n "/^check_device/,/^}/p" "$ROOT/deploy/flash.sh" | sed "/-b /d")"; check_device'
    )
    done = shell(script, SYS=tmp_path, **variables)
    assert done.returncode == (1 if says else 0), done.stderr
    assert says in done.stderr


def test_another_card_than_the_one_that_was_shown_is_not_written(tmp_path: Path) -> None:
    script = """
    device=/dev/sdx root=$WORK work=$WORK python=:; mkdir deploy; : >"$WORK/held"
    identity_of() { echo "another"; }
    confirmed=one
    hold_device
    """
    done = shell(f"cd $WORK; {script}", WORK=tmp_path)
    assert done.returncode == 1
    assert "is not the card any more" in done.stderr


def test_a_bundle_for_another_architecture_is_refused(card: Path) -> None:
    (card / "wheels").mkdir()
    (card / "wheels/pydantic_core-2.0-cp311-cp311-manylinux_2_17_armv7l.manylinux2014_armv7l.whl").touch()
    (card / "root/usr/bin/python3").symlink_to("python3.11")
    script = "files=$CARD/root bundle=$CARD image=raspios.img; check_bundle_fits"
    for machine, remedy in (
        (0xB7, "bundle --arch aarch64 --python 3.11"),
        (0x28, ""),
        (0x3E, "--arch x86_64"),
    ):
        (card / "root/usr/bin/python3.11").write_bytes(b"\x7fELF".ljust(18, b"\0") + bytes([machine, 0]))
        done = shell(script, CARD=card)
        assert done.returncode == (1 if remedy else 0), done.stderr
        assert remedy in done.stderr


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
