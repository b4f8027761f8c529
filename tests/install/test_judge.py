"""What a new release is blamed for, and what not."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli.doctor import document
from agent.doctor.once import told_once
from agent.doctor.rounds import Report
from drivers.examination import problem
from tests.install.checkout import REPOSITORY

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import ModuleType

PLACE = REPOSITORY / "deploy/judge.py"


def the_script() -> ModuleType:
    """It is no part of a package: it is run by its path."""
    spec = importlib.util.spec_from_file_location("judge", PLACE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


JUDGE = the_script()
STARTED, BEFORE = "2026-11-26T10:00:00Z", "2026-11-26T11:00:00+00:00"
SOURCE = {"source_id": "soil", "condition": "ok", "frames": 3600}
UPSTREAM = {"name": "cloud", "state": "connected", "backlog": 0, "last_delivery": "2026-11-26T10:59:58Z"}


def report(stored: int = 100, fault: str | None = None, **changes: Any) -> dict[str, Any]:
    """As `outstation status --json` has it, as far as it matters."""
    fields = {"sources": [SOURCE], "upstreams": [UPSTREAM], "at": BEFORE, "started_at": STARTED}
    return fields | {"buffer": {"stored": stored, "fault": fault}} | changes


def source(**changes: Any) -> dict[str, Any]:
    return {"sources": [SOURCE | changes]}


def upstream(**changes: Any) -> dict[str, Any]:
    return {"upstreams": [UPSTREAM | changes]}


def judged(
    folder: Path,
    now: dict[str, Any],
    *,
    before: dict[str, Any] | None = None,
    stored: Sequence[int] = (100, 105),
    doctor: list[dict[str, str]] | None = None,
) -> tuple[int, str]:
    """The exit status, and what it says."""
    known = before or report(110)
    texts = {
        "before": "".join(f"{json.dumps(known | {'buffer': {'stored': n}})}\n" for n in stored)
        + f"{json.dumps(known)}\n",
        "first": json.dumps(report(120)),
        "now": json.dumps(now),
    }
    if doctor is not None:
        texts["doctor"] = json.dumps({"findings": doctor})
    for name, text in texts.items():
        (folder / name).write_text(text)
    files = [folder / name for name in texts]
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        status = JUDGE.main([str(file) for file in files])
    return status, told.getvalue()


def test_one_that_does_what_the_one_before_did(tmp_path: Path) -> None:
    assert judged(tmp_path, report(130)) == (0, "")
    assert judged(tmp_path, report(90)) == (0, ""), "old readings go, too"


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (report(120), "readings were stored before, and are not now"),
        (report(130, fault="no space left"), "the buffer: no space left"),
        (report(130, sources=[]), "source soil is not there any more"),
        (report(130, **source(condition="link_down")), "source soil worked before, and now: link down"),
        (report(130, **source(condition="garbage")), "source soil worked before, and now: garbage"),
        (report(130, **source(frames=0)), "source soil said something before, and nothing now"),
        (report(130, upstreams=[]), "upstream cloud is not there any more"),
        (report(130, **upstream(state="failing")), "upstream cloud was connected before, and now: failing"),
        (
            report(130, **upstream(last_delivery=None, backlog=3)),
            "nothing is delivered to upstream cloud, as it was before",
        ),
    ],
)
def test_one_that_does_less(tmp_path: Path, now: dict[str, Any], says: str) -> None:
    assert judged(tmp_path, now) == (1, f"{says}\n")


@pytest.mark.parametrize(
    ("before", "now"),
    [
        (report(110, **source(condition="link_down")), report(130, **source(condition="link_down"))),
        (report(110, **source(frames=20)), report(130, **source(frames=0))),
        (report(110), report(130, **source(condition="silent", frames=2))),
        (report(110, **upstream(state="failing")), report(130, **upstream(state="failing"))),
        (report(110, **upstream(last_delivery=None)), report(130, **upstream(last_delivery=None))),
        (report(110, fault="read-only"), report(130, fault="read-only")),
    ],
    ids=[
        "link was down",
        "says little",
        "said something",
        "was off",
        "was idle",
        "disk was ill",
    ],
)
def test_what_was_not_before_is_not_asked_for(
    tmp_path: Path, before: dict[str, Any], now: dict[str, Any]
) -> None:
    assert judged(tmp_path, now, before=before) == (0, "")


def test_what_is_stored_now_and_then_only_is_not_waited_for(tmp_path: Path) -> None:
    assert judged(tmp_path, report(120), before=report(100), stored=(100, 100)) == (0, "")
    assert judged(tmp_path, report(120), stored=(100, 110)) == (0, "")
    assert judged(tmp_path, report(130, **upstream(last_delivery=None))) == (0, ""), "nothing to deliver"


def test_a_clock_that_was_set_back_asks_for_no_more(tmp_path: Path) -> None:
    before = report(110, **source(frames=20), started_at="2026-11-27T10:00:00Z")
    assert judged(tmp_path, report(130, **source(frames=0)), before=before) == (0, "")


@pytest.mark.parametrize("now", [report(130, buffer={}), report(130, sources=[{}]), {}])
def test_what_cannot_be_compared_is_no_reason_to_go_back(tmp_path: Path, now: dict[str, Any]) -> None:
    code, said = judged(tmp_path, now)
    assert code == 0
    assert "cannot be compared" in said


def finding(check: str, subject: str, level: str = "problem") -> dict[str, str]:
    return {"check": check, "subject": subject, "level": level, "what": "", "remedy": ""}


@pytest.mark.parametrize(
    ("now", "found", "status"),
    [
        (report(130, **upstream(state="failing")), finding("network", "cloud"), 0),
        (report(130, **upstream(state="failing")), finding("upstream", "cloud"), 0),
        (report(130, **upstream(state="failing")), finding("upstream", "cloud", "ok"), 1),
        (report(130, **upstream(state="failing")), finding("network", "other"), 1),
        (report(130, **source(condition="link_down")), finding("source", "soil"), 0),
        (report(130, **source(condition="link_down")), finding("source", "soil", "warning"), 1),
        (report(130, fault="read-only"), finding("disk", "file system"), 0),
        # What the doctor finds for several it tells once.
        (report(130, **source(condition="link_down")), finding("network", "hall, soil"), 0),
        (report(130, **upstream(state="retrying")), finding("network", "backup, cloud"), 0),
        (report(130, **upstream(state="retrying")), finding("network", "backup, cloud-2"), 1),
    ],
)
def test_what_does_not_work_for_the_one_before_either_is_no_fault_of_this_one(
    tmp_path: Path, now: dict[str, Any], found: dict[str, str], status: int
) -> None:
    code, said = judged(tmp_path, now, doctor=[found])
    assert code == status
    assert ("which the release before finds no better" in said) is (status == 0)


def test_what_the_doctor_tells_once_for_several_excuses_each(tmp_path: Path) -> None:
    """As the doctor really tells it."""
    silent = [
        Report("network", [problem(name, "broker: connection refused", "start it")])
        for name in ("hall", "soil")
    ]
    found = document(told_once(silent))["findings"]
    assert len(found) == 1
    assert judged(tmp_path, report(130, **source(condition="link_down")), doctor=found)[0] == 0


def test_a_report_is_stamped() -> None:
    done = subprocess.run(
        [sys.executable, "-I", PLACE, "--stamp"],
        check=True,
        input='{\n  "version": "1"\n}\n',
        capture_output=True,
        text=True,
    )
    (line,) = done.stdout.splitlines()
    assert set(json.loads(line)) == {"at", "version"}
