"""A dry run, as a person reads it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from agent.dead_letters import Letter
from agent.status.text import counted
from collectors.enums import Lane
from collectors.models import CollectedData, Reading

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from agent.trial.outcome import Outcome
    from agent.trial.trace import Passage, StepRun

_SHOWN_MAX: Final = 8
"""So many readings of one frame or message are shown a step; the others are counted."""
_RAW_MAX: Final = 72
_SAME: Final = "as it came"
_COUNTS: Final = ("given", "made", "changed", "left_out", "held", "dropped", "failed")
"""What is counted of a step: readings, and frames that failed."""


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    """What became of one item."""
    yield _heading(outcome)
    for passage in outcome.passages:
        width = max((len(step.step_id) for step in passage.steps), default=0)
        for step in passage.steps:
            first, *more = _step_lines(step)
            yield f"  {step.number} {step.step_id:<{width}}  {first}"
            for line in more:
                yield f"    {'':<{width}}  {line}"
    yield from _ends(outcome)


def step_lines(outcome: Outcome, wanted: str) -> Iterator[str]:
    """What one step was given and gave, whole."""
    for passage in outcome.passages:
        for step in passage.steps:
            if wanted not in {step.step_id, str(step.number)}:
                continue
            yield _heading(outcome)
            given = [_raw(step.given)] if isinstance(step.given, CollectedData) else _all(step.given)
            for label, texts in (("in ", given), ("out", _all(step.made or ()))):
                for text in texts or ["nothing"]:
                    yield f"  {label}  {text}"
            if step.error is not None:
                yield f"  failed: {step.error}"
            for reading, why in step.refused:
                yield f"  dropped  {reading_text(reading)}: {why}"


def _heading(outcome: Outcome) -> str:
    when = datetime.fromtimestamp(outcome.t, UTC)
    stamp = when.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00")
    if outcome.item is None:
        return "the input has ended" if outcome.is_end else f"{stamp}  time has passed"
    what = outcome.item.what
    if isinstance(what, CollectedData):
        return f"{stamp}  {what.source_id}  {_raw(what)}"
    if isinstance(what, Letter):
        return f"{stamp}  {', '.join(what.sources)}  {outcome.item.where} ({what.stage})"
    return f"{stamp}  {what.source}  {outcome.item.where}: {reading_text(what)}"


def _raw(data: CollectedData) -> str:
    text = data.raw_data[: _RAW_MAX + 1].decode("utf-8", "replace")
    shown = text if text.isprintable() else data.raw_data[: _RAW_MAX // 3].hex(" ")
    return f"{shown[:_RAW_MAX]}..." if len(data.raw_data) > _RAW_MAX else shown


def _all(readings: Sequence[Reading]) -> list[str]:
    return list(_bounded((reading_text(reading) for reading in readings), len(readings)))


def _bounded(lines: Iterable[str], count: int) -> Iterator[str]:
    yield from islice(lines, _SHOWN_MAX)
    if count > _SHOWN_MAX:
        yield f"and {count - _SHOWN_MAX} more"


def _step_lines(step: StepRun) -> list[str]:
    if step.made is None:
        return [f"FAILED: {step.error}"]
    if isinstance(step.given, CollectedData):
        return _all(step.made) or ["nothing"]
    refused = {id(reading): why for reading, why in step.refused}
    lines = [_change(before, after, refused, holds=step.holds) for before, after in step.changes()]
    if len(lines) > 1 and set(lines) == {_SAME}:
        return [f"as they came ({len(lines)})"]
    return list(_bounded(lines, len(lines))) or ["nothing"]


def _change(before: Reading | None, after: Reading | None, refused: dict[int, str], *, holds: bool) -> str:
    if after is None:
        assert before is not None
        why = refused.get(id(before))
        if why is not None:
            return f"dropped: {why}"
        return "held" if holds else "left out"
    if before is None:
        return f"gives {reading_text(after)}"
    return _SAME if before is after else ", ".join(_differences(before, after)) or _SAME


def _differences(before: Reading, after: Reading) -> Iterator[str]:
    yield from _value_differences(before, after)
    yield from _tag_differences(before.tags, after.tags)
    for name, quality in after.quality.items():
        if before.quality.get(name) != quality:
            yield f"{name} is {quality.flag.value}: {quality.reason}"
    if after.lane is not before.lane:
        yield f"{after.lane.value} lane"
    if after.t != before.t:
        yield f"at {_time(after.t)}"


def _value_differences(before: Reading, after: Reading) -> Iterator[str]:
    for name, value in after.values.items():
        shown = _value(value, after.units.get(name))
        if name not in before.values:
            yield f"+ {name} {shown}"
        elif (old := _value(before.values[name], before.units.get(name))) != shown:
            yield f"{name} {old} -> {shown}"
    for name in before.values.keys() - after.values.keys():
        yield f"- {name}"


def _tag_differences(before: Mapping[str, str], after: Mapping[str, str]) -> Iterator[str]:
    for name, tag in after.items():
        if before.get(name) != tag:
            yield f"+ tag {name}={tag}"
    for name in before.keys() - after.keys():
        yield f"- tag {name}"


def reading_text(reading: Reading) -> str:
    """A reading in one line."""
    parts = [
        ", ".join(
            f"{name} {_value(value, reading.units.get(name))}" for name, value in reading.values.items()
        )
    ]
    if reading.tags:
        parts.append("[" + ", ".join(f"{name}={tag}" for name, tag in sorted(reading.tags.items())) + "]")
    parts += [f"({name} {quality.flag.value}: {quality.reason})" for name, quality in reading.quality.items()]
    if reading.lane is Lane.ALARM:
        parts.append("alarm lane")
    return "  ".join(parts)


def _value(value: Any, unit: str | None) -> str:
    text = f"{value:.10g}" if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
    return f"{text} {unit}" if unit else text


def _time(t: float) -> str:
    return datetime.fromtimestamp(t, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00")


def _ends(outcome: Outcome) -> Iterator[str]:
    """What is stored in the end."""
    for letter in outcome.letters:
        yield f"  = dead letter ({letter['stage']}): {letter['reason']}"
    stored = [reading for passage in outcome.passages for reading in passage.final]
    for line in _bounded((_stored(reading) for reading in stored), len(stored)):
        yield f"  = {line}"
    if not stored and not outcome.letters:
        yield f"  = {'held' if any(passage.is_held for passage in outcome.passages) else 'nothing is stored'}"


def _stored(reading: Reading) -> str:
    return f"stored, {_time(reading.t)}: {reading_text(reading)}"


class Summary:
    """What each step did in all."""

    def __init__(self) -> None:
        self.items = self.stored = self.letters = 0
        self._steps: dict[tuple[str, int, str], dict[str, int]] = {}

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        self.items += outcome.item is not None
        self.letters += len(outcome.letters)
        for passage in outcome.passages:
            self.stored += len(passage.final)
            for step in passage.steps:
                self._count(passage, step)

    def _count(self, passage: Passage, step: StepRun) -> None:
        key = (passage.pipeline_id, step.number, step.step_id)
        counts = self._steps.setdefault(key, dict.fromkeys(_COUNTS, 0))
        if step.made is None:
            counts["failed"] += 1
            return
        counts["made"] += len(step.made)
        if isinstance(step.given, CollectedData):
            counts["given"] += 1
            return
        counts["given"] += len(step.given)
        counts["dropped"] += len(step.refused)
        for before, after in step.changes():
            if before is not None and after is not None and before is not after:
                counts["changed"] += any(True for _ in _differences(before, after))
            counts["held" if step.holds else "left_out"] += after is None
        counts["held" if step.holds else "left_out"] -= len(step.refused)

    def document(self) -> dict[str, Any]:
        """The summary as JSON."""
        steps = [
            {"pipeline": pipeline, "number": number, "step": step, **counts}
            for (pipeline, number, step), counts in sorted(self._steps.items())
        ]
        return {"items": self.items, "stored": self.stored, "dead_letters": self.letters, "steps": steps}

    def lines(self) -> Iterator[str]:
        """The summary for a person."""
        yield f"{self.items} in: {counted(self.stored, 'reading')} would be stored, {counted(self.letters, 'dead letter')}"
        width = max((len(step) for _, _, step in self._steps), default=0)
        shown = None
        for (pipeline, number, step), counts in sorted(self._steps.items()):
            if pipeline != shown:
                shown = pipeline
                yield f"{pipeline}:"
            rest = "".join(f", {counts[key]} {key.replace('_', ' ')}" for key in _COUNTS[2:] if counts[key])
            yield f"  {number} {step:<{width}}  {counts['given']} in, {counts['made']} out{rest}"


def outcome_document(outcome: Outcome, wanted: str | None = None) -> dict[str, Any]:
    """One outcome as JSON."""
    passages = [
        {
            "pipeline": passage.pipeline_id,
            "steps": [
                _step_document(step)
                for step in passage.steps
                if wanted is None or wanted in {step.step_id, str(step.number)}
            ],
        }
        for passage in outcome.passages
    ]
    return {
        "where": None if outcome.item is None else outcome.item.where,
        "t": outcome.t,
        "end": outcome.is_end,
        "passages": passages,
        "dead_letters": list(outcome.letters),
        "stored": [reading.to_document() for passage in outcome.passages for reading in passage.final],
    }


def _step_document(step: StepRun) -> dict[str, Any]:
    given: Any
    if isinstance(step.given, CollectedData):
        given = {"format": step.given.data_format, "raw": step.given.raw_data.decode("latin-1")}
    else:
        given = [reading.to_document() for reading in step.given]
    return {
        "number": step.number,
        "step": step.step_id,
        "in": given,
        "out": None if step.made is None else [reading.to_document() for reading in step.made],
        "error": step.error,
        "dropped": [[reading.to_document(), why] for reading, why in step.refused],
    }
