"""Steps of installing and upgrading, each by itself: what a machine must have, what is there already, what a dry run says."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.install.functions import shell

if TYPE_CHECKING:
    from pathlib import Path


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
        'check_extras() { :; }; command=install current=$FOLDER/current root=$FOLDER/bundle; parse_device_options "$@"; echo "$with"',
        *given,
        FOLDER=tmp_path,
    )
    assert done.stdout == taken + "\n", done.stderr


def test_an_upgrade_takes_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "my.toml").touch()
    script = 'command=$1; parse_device_options --config "$FOLDER/my.toml"; echo "$first_configuration"'
    assert shell(script, "install", FOLDER=tmp_path).stdout == f"{tmp_path}/my.toml\n"
    done = shell(script, "upgrade", FOLDER=tmp_path)
    assert done.returncode == 2
    assert "--config is for install" in done.stderr


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


PREFLIGHT = """
say() { echo "$*"; }
id() { echo 0; }
getent() { :; }
systemctl() { :; }
stat() { echo "$FILE_SYSTEM"; }
df() { printf 'head\\n/dev/root 9 9 %s 1%% /\\n' "$FREE_MB"; }
uname() { echo "$KERNEL"; }
getconf() { echo "$BITS"; }
date() { echo "$YEAR"; }
existing_parent() { echo "$FOLDER"; }
systemd_runs=$SYSTEMD command_line=$FOLDER/cmdline offline=$OFFLINE python_version=3.13.5
echo "console=tty1 $BOOT" >"$command_line"
"""
MACHINE = {
    "KERNEL": "aarch64",
    "BITS": "64",
    "FREE_MB": "4000",
    "FILE_SYSTEM": "ext2/ext3",
    "BOOT": "rootwait",
    "YEAR": "2026",
    "OFFLINE": "",
}
ARM64, ARM32 = "_17_aarch64.manylinux2014_aarch64.whl", "_17_armv7l.manylinux2014_armv7l.whl"


@pytest.mark.parametrize(
    ("changes", "wheel", "says"),
    [
        ({}, None, ""),
        ({"KERNEL": "x86_64"}, None, ""),
        ({"KERNEL": "armv6l", "BITS": "32"}, None, "a Raspberry Pi 2 or later"),
        ({"KERNEL": "riscv64"}, None, "not tested on riscv64"),
        ({"KERNEL": "x86_64", "BITS": "32"}, None, "not tested on i686"),
        ({"FREE_MB": "299"}, None, "there are 299 MB free"),
        ({"SYSTEMD": "/nowhere"}, None, "there is no systemd here"),
        ({"FILE_SYSTEM": "overlayfs", "BOOT": "boot=overlay"}, None, "an overlay in memory"),
        ({"FILE_SYSTEM": "overlayfs"}, None, ""),
        ({}, f"cp313-cp313-manylinux_2{ARM64}", ""),
        ({}, f"cp311-cp311-manylinux_2{ARM64}", "bundle --arch aarch64 --python 3.13"),
        ({"BITS": "32"}, f"cp313-cp313-manylinux_2{ARM64}", "bundle --arch armv7l --python 3.13"),
        ({"BITS": "32"}, f"cp313-cp313-manylinux_2{ARM32}", ""),
    ],
)
def test_what_a_machine_must_have(
    tmp_path: Path, changes: dict[str, str], wheel: str | None, says: str
) -> None:
    variables: dict[str, str | Path] = {**MACHINE, "FOLDER": tmp_path, "SYSTEMD": tmp_path, **changes}
    if wheel is not None:
        variables["OFFLINE"] = tmp_path
        (tmp_path / f"pydantic_core-2.50.4-{wheel}").touch()
    # A shell finds its own `[ -w ]` out; whoever runs the tests may write here.
    done = shell(PREFLIGHT + "step_preflight", **variables)
    assert done.returncode == (1 if says else 0), done.stderr
    assert says in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="file systems are mounted as root")
def test_a_disk_that_is_mounted_read_only_is_said(tmp_path: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path], check=True)
    try:
        script = PREFLIGHT.replace('echo "console', ': "console').replace(">", "; : ")
        script = script.replace("$FOLDER/cmdline", "/dev/null")
        done = shell(script + "step_preflight", **{**MACHINE, "FOLDER": tmp_path, "SYSTEMD": "/tmp"})
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == 1
    assert f"{tmp_path} is on a file system that is mounted read-only" in done.stderr


def test_a_wrong_clock_is_said_only_where_a_certificate_was_refused(tmp_path: Path) -> None:
    script = """
    release=r; pip() { echo "$SAYS"; return 1; }
    quietly 'fetching' pip || release_failed
    """
    refused = "SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate is not yet valid'))"
    assert "and the clock says" in shell(script, SAYS=refused).stderr
    assert "and the clock says" not in shell(script, SAYS="no such host").stderr


ACCOUNTS = """
say() { echo "$*"; }
getent() { case " $THERE " in *" $2 "*) ;; *) return 1 ;; esac; }
id() {
    case $1 in
    -u) [ -n "$USER_ID" ] && echo "$USER_ID" ;;
    *) echo "$MEMBER_OF" ;;
    esac
}
groupadd() { echo "groupadd $*"; THERE="$THERE outstation"; }
useradd() { echo "useradd $1 $2 $3"; MEMBER_OF=outstation; }
usermod() { echo "usermod $*"; }
install() { :; }
step_user
"""
JOINS = "usermod -a -G dialout outstation"


@pytest.mark.parametrize(
    ("groups", "uid", "member_of", "done_then"),
    [
        ("dialout", "", "", ["groupadd --system outstation", "useradd --system --gid outstation", JOINS]),
        ("dialout outstation", "", "", ["useradd --system --gid outstation", JOINS]),
        ("dialout outstation", "998", "outstation dialout", []),
        (
            "dialout",
            "998",
            "users",
            ["groupadd --system outstation", "usermod -a -G outstation outstation", JOINS],
        ),
        (
            "outstation",
            "1001",
            "outstation",
            ["there is a user outstation who is a person: the agent runs as that one"],
        ),
    ],
    ids=["none", "the group", "both", "the user", "a person"],
)
def test_a_user_or_group_of_that_name_may_be_there_already(
    groups: str, uid: str, member_of: str, done_then: list[str]
) -> None:
    done = shell(ACCOUNTS, THERE=groups, USER_ID=uid, MEMBER_OF=member_of)
    assert (done.returncode, done.stdout.splitlines()) == (0, done_then), done.stderr


DRY = """
say() { echo "$*"; }
preflight_looks() { echo looked; }
step_preflight() { preflight_looks; }
getent() { :; }
name_release() { release=0.1.0-new folder_of_release=$FOLDER/releases/0.1.0-new; }
check_bundle() { :; }
check_extras() { :; }
root=$FOLDER command=$COMMAND releases=$FOLDER/releases current=$FOLDER/current pending=$FOLDER/pending
configuration=$FOLDER/outstation.toml
command_$COMMAND --dry-run
"""


def test_a_dry_run_says_what_would_be_done_and_does_nothing(tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    done = shell(DRY, FOLDER=tmp_path, COMMAND="install")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["[1/9] looking at this machine", "looked"]
    assert lines[-1] == "nothing was done (--dry-run)"
    assert not any("release 0.1.0-new is there already" in line for line in lines)
    assert sorted(tmp_path.rglob("*")) == before

    nothing = shell(DRY, FOLDER=tmp_path, COMMAND="upgrade")
    assert nothing.returncode == 1
    assert "nothing is installed that could be upgraded" in nothing.stderr

    for release in ("old", "new"):
        (tmp_path / f"releases/0.1.0-{release}").mkdir(parents=True)
        (tmp_path / f"releases/0.1.0-{release}/complete").touch()
    (tmp_path / "current").symlink_to("releases/0.1.0-old")
    (tmp_path / "outstation.toml").touch()
    other = shell(DRY, FOLDER=tmp_path, COMMAND="install")
    assert other.returncode == 1
    assert "sudo ./install.sh upgrade" in other.stderr
    assert "is there already" in shell(DRY, FOLDER=tmp_path, COMMAND="upgrade").stdout
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to("releases/0.1.0-new")
    again = shell(DRY, FOLDER=tmp_path, COMMAND="install").stdout
    assert "release 0.1.0-new is there already" in again
    assert "outstation.toml is left as it is" in again
    assert "is installed already" in shell(DRY, FOLDER=tmp_path, COMMAND="upgrade").stdout


def test_a_failed_preflight_ends_a_dry_run(tmp_path: Path) -> None:
    script = DRY.replace("preflight_looks() { echo looked; }", "preflight_looks() { die 'no room'; }")
    done = shell(script, FOLDER=tmp_path, COMMAND="install")
    assert done.returncode == 1
    assert "no room" in done.stderr


@pytest.mark.parametrize(("is_pending", "waits_s"), [(False, "0"), (True, "310")])
def test_an_upgrade_that_is_being_settled_is_waited_for(
    tmp_path: Path, waits_s: str, *, is_pending: bool
) -> None:
    if is_pending:
        (tmp_path / "pending").touch()
    script = 'say() { :; }; take_lock() { echo "$1"; }; pending=$FOLDER/pending; take_lock_after_settling'
    assert shell(script, FOLDER=tmp_path).stdout == f"{waits_s}\n"
