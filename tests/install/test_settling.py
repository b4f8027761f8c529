"""Whether an upgrade is kept: the release before is asked what it finds wrong, before the new one is blamed."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.install.functions import shell, shell_of
from tests.install.test_judge import finding, report, source, upstream
from tests.install.test_watch import answering, saying

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SETTLING = """
releases=$FOLDER/releases before=old after=new did_before=$FOLDER/before PROGRESS_S=$SECONDS_LEFT STEADY_S=0.01 READY_S=$READY
does_its_work
"""
PROGRAM = """#!/bin/sh
case "$1 $4" in
'status --where') [ -z "$NOWHERE" ] && cat "$FOLDER/sockets" ;;
'doctor --json') echo "doctor of ${0#"$FOLDER"}" >>"$FOLDER/calls"; cat "$FOLDER/doctor"; exit 1 ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$FOLDER/asked"
printf 'ActiveState=%s\\nNRestarts=%s\\nMainPID=%s\\n' "$STATE" "$RESTARTS" "$PID"
"""
AS_IF_IT_RAN = "import sys; sys.stdin.read()"


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Two releases, and an agent that did its work under the old one."""
    for release in ("old", "new"):
        programs = tmp_path / "releases" / release / "venv/bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(sys.executable)
        (programs / "outstation").write_text(PROGRAM)
        (programs / "outstation").chmod(0o755)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(SYSTEMCTL)
    (tmp_path / "bin/systemctl").chmod(0o755)
    (tmp_path / "before").write_text("".join(f"{json.dumps(report(n))}\n" for n in (100, 105, 110)))
    (tmp_path / "doctor").write_text(json.dumps({"findings": []}))
    (tmp_path / "sockets").write_text(f"{tmp_path}/opening.sock\n{tmp_path}/agent.sock\n")
    return tmp_path


@contextlib.contextmanager
def running(device: Path, release: str) -> Iterator[str]:
    """A process of a release; its id."""
    python = device / "releases" / release / "venv/bin/python"
    with subprocess.Popen([python, "-I", "-S", "-c", AS_IF_IT_RAN], stdin=subprocess.PIPE) as process:
        try:
            yield str(process.pid)
        finally:
            process.communicate()


def settings(device: Path, **changes: str) -> dict[str, str | Path]:
    """What the functions are told."""
    known = {"SECONDS_LEFT": "0", "READY": "5", "STATE": "active", "RESTARTS": "0", "NOWHERE": ""} | changes
    return {**known, "FOLDER": device, "PATH": f"{device / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"}


def settled(
    device: Path, now: dict[str, Any], name: str = "agent", of: str = "new", **changes: str
) -> tuple[int, str]:
    text = json.dumps(now).encode()
    with running(device, of) as pid, answering(device / f"{name}.sock", saying(text)):
        done = shell(SETTLING, PID=pid, **settings(device, **changes))
    assert done.stderr == ""
    (device / f"{name}.sock").unlink()
    return done.returncode, done.stdout


def stores_now_and_then(device: Path) -> None:
    """So that a report which stays the same is none of a release that stores nothing."""
    line = json.dumps(report(100))
    (device / "before").write_text(f"{line}\n" * 3)


def test_one_that_does_its_work_is_kept_at_once(device: Path) -> None:
    stores_now_and_then(device)
    assert settled(device, report(130), SECONDS_LEFT="1000")[0] == 0
    assert not (device / "calls").exists(), "nobody was asked for what is not wrong"
    assert len((device / "asked").read_text().splitlines()) == 2, "one question a look"


def test_one_whose_buffer_does_not_open_is_asked_where_it_answers_then(device: Path) -> None:
    stores_now_and_then(device)
    fault = report(0, fault="NOT STORING: dead")
    status, said = settled(device, fault, name="opening")
    assert status == 1
    assert "the buffer: NOT STORING: dead" in said
    (device / "before").write_text(f"{json.dumps(fault)}\n" * 3)
    assert settled(device, fault, name="opening")[0] == 0, "nor did it open before"


def test_one_that_reports_in_another_way_is_kept_and_that_is_said(device: Path) -> None:
    code, said = settled(device, {"version": "9"}, SECONDS_LEFT="1000")
    assert code == 0
    assert "cannot be compared" in said


def test_one_that_does_less_is_left(device: Path) -> None:
    status, said = settled(device, report(130, **source(condition="link_down")))
    assert status == 1
    assert "source soil worked before, and now: link down\n" in said
    assert (device / "calls").read_text() == "doctor of /releases/old/venv/bin/outstation\n"


def test_an_outage_of_the_link_is_no_fault_of_the_release(device: Path) -> None:
    stores_now_and_then(device)
    (device / "doctor").write_text(json.dumps({"findings": [finding("network", "cloud")]}))
    status, said = settled(device, report(130, **upstream(state="failing")))
    assert status == 0
    assert "now: failing, which the release before finds no better" in said
    now = report(120, **upstream(state="failing"), sources=[])
    assert settled(device, now)[0] == 1, "that excuses nothing else"


@pytest.mark.parametrize("doctor", ["", "no JSON", "[]", '{"findings": 5}'])
def test_a_doctor_that_says_nothing_excuses_nothing(device: Path, doctor: str) -> None:
    (device / "doctor").write_text(doctor)
    assert settled(device, report(130, upstreams=[]))[0] == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"RESTARTS": "3"},
        {"STATE": "failed", "READY": "0.1"},
        {"of": "old", "READY": "0.1"},
        {"NOWHERE": "yes"},
    ],
    ids=["ends again and again", "has failed", "is the other release", "cannot say where it answers"],
)
def test_one_that_does_not_run_is_left(device: Path, changes: dict[str, str]) -> None:
    stores_now_and_then(device)
    assert settled(device, report(130), **changes)[0] == 1


def test_a_watch_that_is_killed_is_said(device: Path) -> None:
    python = device / "releases/old/venv/bin/python"
    python.unlink()
    python.write_text("#!/bin/sh\nkill -9 $$\n")
    python.chmod(0o755)
    done = shell(SETTLING, PID="0", **settings(device))
    assert done.returncode == 137
    assert "the watch was ended before its time (exit status 137)" in done.stdout


def test_where_systemd_does_not_answer_nothing_is_taken_for_granted(device: Path) -> None:
    stores_now_and_then(device)
    (device / "bin/systemctl").write_text("#!/bin/sh\nexit 1\n")
    assert settled(device, report(130), READY="0.1")[0] == 1


CUT_SHORT = """
releases=$FOLDER/releases pending=$FOLDER/pending
running_release() { echo new; }
put_rules() { echo "rules of ${1#"$FOLDER"}"; }
step_units() { echo units; }
step_restart() { echo restarted; }
settle() { echo settled; }
settle_what_was_cut_short
"""
PUT_RIGHT = ["rules of /releases/new/deploy", "units"]


@pytest.mark.parametrize(
    ("before", "runs", "then"),
    [
        ("old", "old", [*PUT_RIGHT, "restarted", "settled"]),
        ("old", "new", [*PUT_RIGHT, "settled"]),
        ("old", "", [*PUT_RIGHT, "settled"]),
        ("new", "new", [*PUT_RIGHT, "settled"]),
        ("new", "old", [*PUT_RIGHT, "restarted", "settled"]),
        ("", "new", []),
    ],
    ids=[
        "before the restart",
        "after it",
        "nothing runs",
        "before the change",
        "in the middle of going back",
        "none was begun",
    ],
)
def test_what_is_left_of_an_upgrade_that_was_cut_short_is_done(
    device: Path, before: str, runs: str, then: list[str]
) -> None:
    if before:
        (device / "pending").write_text(f"{before}\n")
    with running(device, runs) if runs else contextlib.nullcontext("0") as pid:
        (device / "bin/systemctl").write_text(f"#!/bin/sh\ncase $1 in show) echo {pid} ;; esac\n")
        done = shell(CUT_SHORT, **settings(device))
    assert (done.returncode, done.stdout.splitlines(), done.stderr) == (0, then, "")


GOING_BACK = """
releases=$FOLDER/releases pending=$FOLDER/pending did_before=$FOLDER/before
running_release() { echo new; }
is_complete() { true; }
is_switched_on() { true; }
does_its_work() { false; }
switch_to() { echo "change to $1"; }
put_rules() { echo "rules of ${1#"$FOLDER"}"; false; }
settle
"""


def test_going_back_brings_back_the_rules_and_is_not_held_up_by_them(device: Path) -> None:
    (device / "pending").write_text("old\n")
    (device / "bin/systemctl").write_text('#!/bin/sh\necho "$1"\n')
    (device / "bin/journalctl").symlink_to("/bin/true")
    done = shell(GOING_BACK, **settings(device))
    first, *then = done.stdout.splitlines()
    assert "release new does not do its work: going back to old" in first
    assert then == ["change to old", "rules of /releases/old/deploy", "restart"]
    assert "the upgrade to new failed; old runs again" in done.stderr
    assert done.returncode == 1
    assert not (device / "pending").exists()


HAS_A_TERMINAL = """
command=none
trap 'clean_up' EXIT
trap 'exit 130' INT HUP
trap 'exit 143' TERM
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_watch_at_once(device: Path, number: signal.Signals) -> None:
    with (
        running(device, "new") as pid,
        answering(device / "agent.sock", saying(json.dumps(report(120, sources=[])).encode())),
        shell_of(HAS_A_TERMINAL + SETTLING, PID=pid, **settings(device, SECONDS_LEFT="1000")) as settling,
    ):
        assert settling.stdout is not None
        assert "seeing whether" in settling.stdout.readline()
        settling.send_signal(number)
        # Nobody hears a verdict any more; the end of the file comes once the watcher has ended as well.
        settling.communicate(timeout=10)
    assert settling.returncode == {signal.SIGHUP: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
