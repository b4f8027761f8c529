"""What a receiver counts, as Prometheus reads it (text format 0.0.4). Pure: no I/O, no clock.

The labels are bounded: of devices whose readings are missing, the `DEVICES_MAX` worst are named, and the others are one.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agent.receiver.gaps import Missing

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
DEVICES_MAX = 100
COMMIT_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_PREFIX = "outstation_receiver"


class Meter:
    """Counts since the receiver was started."""

    def __init__(self) -> None:
        self.batches = dict.fromkeys(("stored", "refused", "failed"), 0)
        """By what became of them."""
        self.readings = 0
        self.duplicates = 0
        self.waiting = 0
        """Batches handed over and not yet committed."""
        self.database_up = False
        self.lag_s = 0.0
        """Age of the newest reading of the last commit."""
        self._commits = [0] * (len(COMMIT_BUCKETS_S) + 1)
        self._commit_seconds = 0.0
        self._missing: dict[str, Missing] | None = None

    def committed(self, seconds: float) -> None:
        """A commit took this long."""
        self._commits[bisect_left(COMMIT_BUCKETS_S, seconds)] += 1
        self._commit_seconds += seconds

    def missing(self, by_device: Mapping[str, Missing]) -> None:
        """What is missing, as last looked up in the database."""
        self._missing = dict(by_device)

    def text(self) -> str:
        """All of it."""
        lines = [
            *_family("batches_total", "counter", "Batches by what became of them.", self._batches()),
            *_family("readings_total", "counter", "Readings that were new.", [("", self.readings)]),
            *_family(
                "duplicates_total",
                "counter",
                "Readings that had come before: resends.",
                [("", self.duplicates)],
            ),
            *_family("waiting_batches", "gauge", "Batches that wait for a commit.", [("", self.waiting)]),
            *_family(
                "database_up", "gauge", "Whether the last commit went well.", [("", int(self.database_up))]
            ),
            *_family(
                "lag_seconds", "gauge", "Age of the newest reading of the last commit.", [("", self.lag_s)]
            ),
            *self._histogram(),
        ]
        if self._missing is not None:
            lines += _family(
                "missing_readings",
                "gauge",
                "Readings that have not come, by why: dropped, never issued, set aside, under way, not judged, or unexplained.",
                _worst(self._missing),
            )
        return "\n".join(lines) + "\n"

    def _batches(self) -> list[tuple[str, int]]:
        return [(f'{{result="{result}"}}', count) for result, count in self.batches.items()]

    def _histogram(self) -> list[str]:
        name = f"{_PREFIX}_commit_seconds"
        lines = [f"# HELP {name} How long commits took.", f"# TYPE {name} histogram"]
        total = 0
        for bound, count in zip((*map(str, COMMIT_BUCKETS_S), "+Inf"), self._commits, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._commit_seconds:.6f}", f"{name}_count {total}"]


def _family(name: str, kind: str, about: str, samples: Iterable[tuple[str, float]]) -> list[str]:
    name = f"{_PREFIX}_{name}"
    return [
        f"# HELP {name} {about}",
        f"# TYPE {name} {kind}",
        *(f"{name}{labels} {n}" for labels, n in samples),
    ]


def _worst(by_device: Mapping[str, Missing]) -> list[tuple[str, float]]:
    """Those that miss most, the unexplained counting first; all others under the empty name."""
    ranked = sorted(by_device.items(), key=lambda item: (-item[1].unexplained, -item[1].total, item[0]))
    samples: list[tuple[str, float]] = []
    for device, missing in ranked[:DEVICES_MAX]:
        samples += _of_device(device, missing.by_kind())
    others: dict[str, int] = {}
    for _, missing in ranked[DEVICES_MAX:]:
        for kind, count in missing.by_kind().items():
            others[kind] = others.get(kind, 0) + count
    return samples + _of_device("", others)


def _of_device(device: str, by_kind: Mapping[str, int]) -> list[tuple[str, float]]:
    return [(f'{{device="{_label(device)}",why="{kind}"}}', count) for kind, count in by_kind.items()]


def _label(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
