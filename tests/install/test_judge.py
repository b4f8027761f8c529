"""What a new release is blamed for, and what not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agent.cli.doctor import document
from agent.doctor.once import told_once
from agent.doctor.rounds import Report
from drivers.examination import problem
from tests.install.functions import script

if TYPE_CHECKING:
    from collections.abc import Sequence

JUDGE = script("judge")
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
    now: dict[str, Any],
    *,
    before: dict[str, Any] | None = None,
    stored: Sequence[int] = (100, 105),
    doctor: list[dict[str, str]] | None = None,
) -> tuple[bool, list[str]]:
    """Whether it does what the one before did, and what there is to say."""
    known = before or report(110)
    samples = [known | {"buffer": {"stored": n}} for n in stored]
    found = None if doctor is None else {"findings": doctor}
    verdict: tuple[bool, list[str]] = JUDGE.judge([*samples, known], report(120), now, found)
    return verdict


def test_one_that_does_what_the_one_before_did() -> None:
    assert judged(report(130)) == (True, [])
    assert judged(report(90)) == (True, []), "old readings go, too"


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
def test_one_that_does_less(now: dict[str, Any], says: str) -> None:
    assert judged(now) == (False, [says])


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
def test_what_was_not_before_is_not_asked_for(before: dict[str, Any], now: dict[str, Any]) -> None:
    assert judged(now, before=before) == (True, [])


def test_what_is_stored_now_and_then_only_is_not_waited_for() -> None:
    assert judged(report(120), before=report(100), stored=(100, 100)) == (True, [])
    assert judged(report(120), stored=(100, 110)) == (True, [])
    assert judged(report(130, **upstream(last_delivery=None))) == (True, []), "nothing to deliver"


def test_a_clock_that_was_set_back_asks_for_no_more() -> None:
    before = report(110, **source(frames=20), started_at="2026-11-27T10:00:00Z")
    assert judged(report(130, **source(frames=0)), before=before) == (True, [])


@pytest.mark.parametrize("now", [report(130, buffer={}), report(130, sources=[{}]), {}])
def test_what_cannot_be_compared_is_no_reason_to_go_back(now: dict[str, Any]) -> None:
    good, (said,) = judged(now)
    assert good
    assert "cannot be compared" in said


def finding(check: str, subject: str, level: str = "problem") -> dict[str, str]:
    return {"check": check, "subject": subject, "level": level, "what": "", "remedy": ""}


@pytest.mark.parametrize(
    ("now", "found", "good"),
    [
        (report(130, **upstream(state="failing")), finding("network", "cloud"), True),
        (report(130, **upstream(state="failing")), finding("upstream", "cloud"), True),
        (report(130, **upstream(state="failing")), finding("upstream", "cloud", "ok"), False),
        (report(130, **upstream(state="failing")), finding("network", "other"), False),
        (report(130, **source(condition="link_down")), finding("source", "soil"), True),
        (report(130, **source(condition="link_down")), finding("source", "soil", "warning"), False),
        (report(130, fault="read-only"), finding("disk", "file system"), True),
        # What the doctor finds for several it tells once.
        (report(130, **source(condition="link_down")), finding("network", "hall, soil"), True),
        (report(130, **upstream(state="retrying")), finding("network", "backup, cloud"), True),
        (report(130, **upstream(state="retrying")), finding("network", "backup, cloud-2"), False),
    ],
)
def test_what_does_not_work_for_the_one_before_either_is_no_fault_of_this_one(
    now: dict[str, Any], found: dict[str, str], *, good: bool
) -> None:
    verdict, (said,) = judged(now, doctor=[found])
    assert verdict is good
    assert said.endswith("which the release before finds no better") is good


def test_what_the_doctor_tells_once_for_several_excuses_each() -> None:
    """As the doctor really tells it."""
    silent = [
        Report("network", [problem(name, "broker: connection refused", "start it")])
        for name in ("hall", "soil")
    ]
    found = document(told_once(silent))["findings"]
    assert len(found) == 1
    assert judged(report(130, **source(condition="link_down")), doctor=found)[0]


@pytest.mark.parametrize("doctor", [{}, {"findings": 5}, {"findings": ["all is well"]}, {"findings": [{}]}])
def test_a_doctor_of_another_shape_excuses_nothing(doctor: dict[str, Any]) -> None:
    now = report(130, sources=[])
    assert not JUDGE.judge([report(100), report(105), report(110)], report(120), now, doctor)[0]
