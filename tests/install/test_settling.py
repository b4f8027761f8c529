"""Whether an upgrade is kept: the release before is asked what it finds wrong, before the new one is blamed."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.install.functions import shell
from tests.install.test_judge import finding, report, source, upstream

if TYPE_CHECKING:
    from pathlib import Path

SETTLING = """
releases=$FOLDER/releases before=old after=new did_before=$FOLDER/before PROGRESS_S=$SECONDS_LEFT
restarts() { echo "$RESTARTS"; }
sleep() { :; }
say() { echo "$*"; }
first_report=$(cat "$FOLDER/first") report=$(cat "$FOLDER/now")
does_what_the_one_before_did
"""
AGENT = """#!/bin/sh
case $1 in
status) cat "$FOLDER/now" ;;
doctor) echo doctor >>"$FOLDER/calls"; cat "$FOLDER/doctor"; exit 1 ;;
esac
"""


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Two releases, and an agent that did its work under the old one."""
    for release in ("old", "new"):
        programs = tmp_path / "releases" / release / "venv/bin"
        programs.mkdir(parents=True)
        (programs / "python").symlink_to(sys.executable)
        (programs / "outstation").write_text(AGENT)
        (programs / "outstation").chmod(0o755)
    (tmp_path / "before").write_text("".join(f"{json.dumps(report(n))}\n" for n in (100, 105, 110)))
    (tmp_path / "first").write_text(json.dumps(report(120)))
    (tmp_path / "doctor").write_text(json.dumps({"findings": []}))
    return tmp_path


def settled(device: Path, now: dict[str, Any], *, seconds: int = 0, restarts: int = 0) -> tuple[int, str]:
    (device / "now").write_text(json.dumps(now))
    done = shell(SETTLING, FOLDER=device, SECONDS_LEFT=str(seconds), RESTARTS=str(restarts))
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_one_that_does_its_work_is_kept_at_once(device: Path) -> None:
    assert settled(device, report(130), seconds=1000)[0] == 0
    assert not (device / "calls").exists(), "nobody was asked for what is not wrong"


def test_one_that_reports_in_another_way_is_kept_and_that_is_said(device: Path) -> None:
    code, said = settled(device, {"version": "9"}, seconds=1000)
    assert code == 0
    assert "cannot be compared" in said


def test_one_that_does_less_is_left(device: Path) -> None:
    status, said = settled(device, report(130, **source(condition="link_down")))
    assert status == 1
    assert "source soil worked before, and now: link down\n" in said


def test_an_outage_of_the_link_is_no_fault_of_the_release(device: Path) -> None:
    (device / "doctor").write_text(json.dumps({"findings": [finding("network", "cloud")]}))
    status, said = settled(device, report(130, **upstream(state="failing")))
    assert status == 0
    assert "now: failing, which the release before finds no better" in said
    assert settled(device, report(120, **upstream(state="failing")))[0] == 1, "that excuses nothing else"


def test_one_that_ends_again_and_again_is_left_at_once(device: Path) -> None:
    assert settled(device, report(120), seconds=1000, restarts=3)[0] == 1


def test_where_nothing_is_known_of_the_release_before_nothing_is_asked_for(device: Path) -> None:
    (device / "before").write_text(json.dumps(report(100)) + "\n")
    assert settled(device, report(120, sources=[]))[0] == 0
    (device / "before").unlink()
    assert settled(device, report(120, sources=[]))[0] == 0


def test_a_doctor_that_says_nothing_excuses_nothing(device: Path) -> None:
    (device / "doctor").write_text("")
    assert settled(device, report(130, upstreams=[]))[0] == 1
