"""Whether a new release does what the one before did. No I/O: `watch.py` asks, and this judges.

Runs on Python 3.11 or later, without packages.
"""

import math
from collections.abc import Iterable, Iterator
from datetime import datetime
from itertools import pairwise
from typing import Any

FRAMES_MIN = 5.0
"""A source that would have said so much meanwhile must have said something."""
WATCHED_S = 180.0
"""So long a release is watched (PROGRESS_S in settling.sh)."""
DELIVERED_LATELY_S = 120.0

Report = dict[str, Any]
"""As `outstation status --json` has it, and `at`, when it was asked for."""
Missing = tuple[str, str, str]
"""Of which kind of check of the doctor's, about what, in words."""

_OF_ANOTHER_SHAPE = (AttributeError, LookupError, TypeError, ValueError)
"""What comes of a report that is not as it is here."""


def missing(samples: list[Report], first: Report, now: Report) -> Iterator[Missing]:
    """What the release before did, and this one does not (yet)."""
    *_, before = samples
    if now["buffer"].get("fault") and not before["buffer"].get("fault"):
        yield "disk", "buffer", f"the buffer: {now['buffer']['fault']}"
    elif stores_all_the_time(samples) and stored(first) == stored(now):
        yield "disk", "buffer", "readings were stored before, and are not now"
    sources = {source["source_id"]: source for source in now["sources"]}
    for source in before["sources"]:
        yield from _of_source(source, sources.get(source["source_id"]), age_s(before))
    upstreams = {upstream["name"]: upstream for upstream in now["upstreams"]}
    for upstream in before["upstreams"]:
        yield from _of_upstream(upstream, upstreams.get(upstream["name"]), before)


def stores_all_the_time(samples: list[Report]) -> bool:
    """Whether something came each time; a pipeline with windows of minutes stores now and then only."""
    counts = [stored(sample) for sample in samples]
    return all(one != other for one, other in pairwise(counts))


def stored(report: Report) -> int:
    """How many readings there are; old ones go, so that it may also become less."""
    return int(report["buffer"]["stored"])


def _of_source(before: Report, now: Report | None, before_s: float) -> Iterator[Missing]:
    name = before["source_id"]
    if before["condition"] != "ok" or not before["frames"]:
        return
    if now is None:
        yield "source", name, f"source {name} is not there any more"
    elif now["condition"] not in {"ok", "silent"}:
        yield "source", name, f"source {name} worked before, and now: {now['condition'].replace('_', ' ')}"
    elif not now["frames"] and before["frames"] / before_s * WATCHED_S >= FRAMES_MIN:
        yield "source", name, f"source {name} said something before, and nothing now"


def _of_upstream(before: Report, now: Report | None, report: Report) -> Iterator[Missing]:
    name = before["name"]
    if before["state"] != "connected":
        return
    if now is None:
        yield "upstream", name, f"upstream {name} is not there any more"
    elif now["state"] != "connected":
        yield "upstream", name, f"upstream {name} was connected before, and now: {now['state']}"
    elif delivered_lately(before, report) and now["backlog"] and not now["last_delivery"]:
        yield "upstream", name, f"nothing is delivered to upstream {name}, as it was before"


def delivered_lately(upstream: Report, report: Report) -> bool:
    """Whether it was busy."""
    last = upstream["last_delivery"]
    return bool(last) and (when(report["at"]) - when(last)).total_seconds() < DELIVERED_LATELY_S


def age_s(report: Report) -> float:
    """How long the agent had been running when it was asked; without end when the clock was set back meanwhile, so that nobody knows."""
    seconds = (when(report["at"]) - when(report["started_at"])).total_seconds()
    return max(1.0, seconds) if seconds >= 0 else math.inf


def when(text: str) -> datetime:
    """A time as JSON has it."""
    return datetime.fromisoformat(text)


def excused(doctor: Report | None) -> set[tuple[str, str]]:
    """What does not work for the release before either, by kind and name; a disk has no name.

    A finding that several have in common, all those behind one broker for one, names all of them.
    """
    found: set[tuple[str, str]] = set()
    for finding in (doctor or {"findings": ()})["findings"]:
        if finding["level"] in {"problem", "unknown"}:
            kinds = {"network": ("upstream", "source"), "disk": ("disk",)}
            for kind in kinds.get(finding["check"], (finding["check"],)):
                names = ["buffer"] if kind == "disk" else finding["subject"].split(", ")
                found.update((kind, name) for name in names)
    return found


def judge(
    samples: Iterable[Report], first: Report, now: Report, doctor: Report | None = None
) -> tuple[bool, list[str]]:
    """Whether the new release does all of it, and what there is to say.

    What cannot be compared, since the two report in different ways, is nobody's fault.

    Args:
        samples: Reports of the release before, some seconds apart.
        first: The new one's first.
        now: Its latest.
        doctor: What `outstation doctor --json` of the release before finds while the new one runs: what does not work for that one
            either is no fault of the new one's.
    """
    try:
        found = list(missing(list(samples), first, now))
    except _OF_ANOTHER_SHAPE as error:
        return True, [f"what the two releases do cannot be compared: {error!r}"]
    try:
        pardoned = excused(doctor)
    except _OF_ANOTHER_SHAPE:
        pardoned = set()
    guilty = [what for kind, name, what in found if (kind, name) not in pardoned]
    rest = [
        f"{what}, which the release before finds no better"
        for kind, name, what in found
        if (kind, name) in pardoned
    ]
    return not guilty, [*guilty, *rest]
