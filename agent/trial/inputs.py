"""What a dry run can be fed with: a capture, exported readings, exported dead letters. One item at a time."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Protocol, TypeAlias

from agent.captures.format import CaptureError, CaptureReader
from agent.dead_letters import Letter
from collectors import metadata_keys as keys
from collectors.models import CollectedData, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.config import AgentConfig, SourceConfig

_LINE_BYTES_MAX: Final = 32 << 20
"""No line that we write is longer: what one message may hold."""
_UP_NS: Final = 1_000_000_000
"""CLOCK_BOOTTIME at the beginning of a capture, which does not tell it; 0 would mean unknown."""


class TrialInputError(ValueError):
    """This cannot be fed to a dry run; the text says why, and what can."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a pipeline is fed with."""

    what: CollectedData | Reading | Letter
    where: str
    """Where it is in the input: `line 12`."""


class _FrameError(Protocol):
    """What a framing says of bytes that are no frame."""

    @property
    def reason(self) -> str:
        """Why."""
        ...

    @property
    def raw(self) -> bytes:
        """The bytes."""
        ...


Frame: TypeAlias = bytes | _FrameError


@dataclass(slots=True)
class Input:
    """A file to be fed.

    Attributes:
        damaged: Lines so far that could not be read, and are left out.
    """

    file: BinaryIO
    config: AgentConfig
    source_id: str | None
    """Only what this source said; for a capture, whose port it is."""
    damaged: int = 0

    def items(self) -> Iterator[Item]:
        """What is in it, in order.

        Raises:
            TrialInputError: It is of no kind that is known, or cannot be fed to this configuration.
            OSError: It cannot be read.
        """
        lines = self._lines()
        first = next(lines, b"")
        document = _object(first)
        if "capture" in document:
            return self._capture(first, lines)
        if "document" in document:
            return self._readings(first, lines)
        if "letter" in document:
            return self._letters(first, lines)
        raise TrialInputError(
            "its first line is none of a capture (`outstation record`), of exported readings (`outstation buffer"
            " export`) or of exported dead letters (`outstation dead-letters export`)"
        )

    def _lines(self) -> Iterator[bytes]:
        while line := self.file.readline(_LINE_BYTES_MAX):
            if len(line) == _LINE_BYTES_MAX:
                raise TrialInputError("it has a line of more than 32 MiB: it is not written by this program")
            yield line

    def _readings(self, first: bytes, lines: Iterator[bytes]) -> Iterator[Item]:
        for number, line in enumerate(_chain(first, lines), start=1):
            try:
                reading = Reading.from_document(_object(line)["document"])
            except (KeyError, TypeError, ValueError):
                self.damaged += 1
                continue
            if self.source_id in {None, reading.source}:
                yield Item(reading, f"line {number}")

    def _letters(self, first: bytes, lines: Iterator[bytes]) -> Iterator[Item]:
        for number, line in enumerate(_chain(first, lines), start=1):
            outer = _object(line)
            document = outer.get("letter")
            if not isinstance(document, dict):
                self.damaged += 1
                continue
            letter = Letter(outer.get("id", number), document)
            if self.source_id is None or self.source_id in letter.sources:
                yield Item(letter, f"dead letter {letter.letter_id}")

    def _capture(self, first: bytes, lines: Iterator[bytes]) -> Iterator[Item]:
        try:
            reader = CaptureReader(_chain(first, lines))
            started = datetime.fromisoformat(str(reader.header.get("started"))).astimezone(UTC)
        except CaptureError as error:
            raise TrialInputError(str(error)) from None
        except ValueError:
            raise TrialInputError("the capture does not say when it was `started`") from None
        source = _source_of(self.config, self.source_id, reader.header.get("port"))
        framing = source.options.framing
        framer, gap_s = framing.framer(), framing.gap_s
        newest = 0.0
        for piece in reader.pieces():
            frames: Sequence[Frame] = (
                framer.finish() if gap_s is not None and piece.t - newest > gap_s else ()
            )
            for frame in (*frames, *framer.feed(piece.data)):
                yield _item(source, frame, started, piece.t)
            newest = piece.t
            self.damaged = reader.damaged
        for frame in framer.finish():
            yield _item(source, frame, started, newest)
        self.damaged = reader.damaged


def _chain(first: bytes, lines: Iterator[bytes]) -> Iterator[bytes]:
    if first:
        yield first
    yield from lines


def _object(line: bytes) -> dict[str, Any]:
    try:
        document = json.loads(line)
    except (RecursionError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _source_of(config: AgentConfig, source_id: str | None, port: object) -> SourceConfig:
    """The source that said what a capture holds.

    Raises:
        TrialInputError: It cannot be told, or is none that has a port.
    """
    serial = {source.id: source for source in config.source if hasattr(source.options, "framing")}
    if source_id is not None:
        if source_id in serial:
            return serial[source_id]
        raise TrialInputError(f"a capture is of a serial port, and {source_id} is no serial source")
    same = [source for source in serial.values() if source.options.name == port]
    found = same if len(same) == 1 else list(serial.values())
    if len(found) == 1:
        return found[0]
    names = ", ".join(serial) or "none"
    raise TrialInputError(
        f"the capture is of {port}: say by --source which serial source that is; there are {names}"
    )


def _item(source: SourceConfig, frame: Frame, started: datetime, t: float) -> Item:
    metadata: dict[str, object] = {keys.UP_NS: _UP_NS + round(t * 1e9)}
    if not isinstance(frame, bytes):
        metadata[keys.FRAME_ERROR] = frame.reason
        frame = frame.raw
    data = CollectedData(
        source_id=source.id,
        timestamp=started + timedelta(seconds=t),
        data_format=source.codec.type,
        collection_method=source.driver,
        raw_data=frame,
        metadata=metadata,
    )
    return Item(data, f"{t:.3f} s")
