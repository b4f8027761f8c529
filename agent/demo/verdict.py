"""The verdict: what the receiver's database holds, against what the device accepted."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

from collectors.enums import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Key = tuple[str, str, int]
"""(device_id, store_id, seq): what makes a reading one and the same everywhere."""

_NOT_MEASURED = frozenset({"origin"})
"""Fields of a stored reading that stay on the device."""
_CORRECTED = frozenset({"t", "clock", "t_error"})


@dataclass(slots=True)
class Verdict:
    """Counts; `proven` is the whole point."""

    accepted: int = 0
    delivered: int = 0
    lost: int = 0
    duplicated: int = 0
    out_of_order: int = 0
    altered: int = 0
    by_source: Counter[str] = field(default_factory=Counter)
    """Readings accepted, by source."""

    @property
    def proven(self) -> bool:
        """Whether every accepted reading arrived once, in order and as it was measured."""
        flaws = self.lost + self.duplicated + self.out_of_order + self.altered
        return self.accepted > 0 and not flaws

    def line(self) -> str:
        """The verdict on one line."""
        return (
            f"accepted {self.accepted}, delivered {self.delivered}, lost {self.lost},"
            f" duplicated {self.duplicated}, out of order {self.out_of_order}, altered {self.altered}"
        )


def _content(document: dict[str, Any]) -> bytes:
    """What was measured, in a form that compares.

    A time that a clock said which was not synchronised is corrected on the way; the moment that cannot be wrong,
    boot and uptime, stays.
    """
    left_out = _NOT_MEASURED if document.get("clock") is None else _NOT_MEASURED | _CORRECTED
    return to_json({key: document[key] for key in sorted(document) if key not in left_out})


def received(database: Path) -> Iterator[tuple[Key, str, dict[str, Any]]]:
    """Key, source and document of every row of a receiver's SQLite database, in order of arrival."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute(
            "SELECT device_id, store_id, seq, source, document FROM readings ORDER BY arrival"
        )
        for device_id, store_id, seq, source, document in rows:
            yield (device_id, store_id, seq), source, from_json(document)


def _in_order(newest: list[int], seq: int) -> bool:
    """Whether a reading goes on with the live readings or with the backlog; each of the two comes in order.

    A receiver is not told which of them a reading belongs to. It goes on with the one that is less far behind it,
    which finds that there are two ascending sequences whenever there are (Dilworth's greedy cover).
    """
    place = max((each for each in (0, 1) if newest[each] < seq), key=newest.__getitem__, default=None)
    if place is None:
        return False
    newest[place] = seq
    return True


def judge(
    accepted: Iterable[tuple[Key, dict[str, Any]]],
    arrived: Iterable[tuple[Key, str, dict[str, Any]]],
) -> Verdict:
    """Compare what the device holds with what arrived.

    A reading that arrived under a key the device does not know counts as a duplicate: it can only be
    another's second copy. Two rows that say the same of the same moment count as one, too.
    """
    kept = {key: _content(document) for key, document in accepted}
    verdict = Verdict(accepted=len(kept))
    verdict.by_source.update(from_json(content)["source"] for content in kept.values())
    seen: set[Key] = set()
    moments: set[bytes] = set()
    lanes: defaultdict[tuple[str, str, str, bool], list[int]] = defaultdict(lambda: [0, 0])
    for key, source, document in arrived:
        device_id, store_id, seq = key
        content = _content(document)
        if key in seen or key not in kept or content in moments:
            verdict.duplicated += 1
            continue
        seen.add(key)
        moments.add(content)
        verdict.delivered += 1
        verdict.altered += content != kept[key]
        is_alarm = document.get("lane") == Lane.ALARM.value
        verdict.out_of_order += not _in_order(lanes[device_id, store_id, source, is_alarm], seq)
    verdict.lost = len(kept) - len(seen)
    return verdict
