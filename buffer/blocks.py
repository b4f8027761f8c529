"""What reading gives: whole lines of segments, parsed only where somebody wants to see the documents."""

from collections.abc import Callable
from typing import Any

from buffer.layout import line_count
from buffer.segment import Position

Records = list[tuple[int, dict[str, Any]]]
_AROUND = b",\t\r\n "
"""What may stand around the records of a segment."""
_WHITE = b"\t\r\n"
"""What can stand between them, but in no record: compact JSON escapes it."""


class Block:
    """Some records, ascending.

    Attributes:
        count: How many.
        first: The lowest id, when there are any.
        last: The highest id.
        complete: There is nothing more in the range that was asked for.
        position: Where to go on without searching.
        reached: All that was asked for up to this id is among the records (or, newest first, down to it).
        paused: It stopped on the way, so that others have their turn: ask for the rest.
    """

    __slots__ = (
        "_parse",
        "_records",
        "_texts",
        "complete",
        "count",
        "first",
        "last",
        "paused",
        "position",
        "reached",
    )

    def __init__(
        self, parse: Callable[[bytes], Records], *, position: Position | None = None, reached: int = 0
    ) -> None:
        """None yet.

        Args:
            parse: Gives the records of whole lines.
            position: Where it was gone on from.
            reached: As the attribute.
        """
        self._parse = parse
        self._texts: list[bytes] = []
        self._records: Records | None = None
        self.count = self.first = self.last = 0
        self.complete = True
        self.position = position
        self.reached = reached
        self.paused = False

    def add(self, text: bytes) -> None:
        """Add whole lines, of higher ids than those before."""
        text = bare(text)
        if text:
            self.first = self.first or first_id(text)
            self.last = last_id(text)
            self.count += line_count(text) + 1
            self._texts.append(text)

    @property
    def records(self) -> Records:
        """Ids and documents. Fewer than `count` where somebody vouched for what is no JSON object."""
        if self._records is None:
            parts = [self._parse(text) for text in self._texts]
            self._records = parts[0] if len(parts) == 1 else [record for part in parts for record in part]
        return self._records

    def forget_parsed(self) -> None:
        """Hold the lines only; `records` parses them anew."""
        self._records = None

    @property
    def encoded(self) -> bytes:
        """All as one JSON object, `{"<id>":<document>,...}`, as compact as it was stored; not parsed."""
        parts = [b"{"]
        for text in self._texts:
            # `translate` takes eight times as long, and only few blocks have a trailer.
            joined = text.replace(b"\n", b"")
            if b"\t" in joined or b"\r" in joined:
                joined = joined.translate(None, _WHITE)
            parts += [joined, b","]
        parts[-1] = b"}" if self._texts else b"{}"
        return b"".join(parts)


def bare(text: bytes) -> bytes:
    """Whole lines without what stands around them: from the first record's id to the last one's end."""
    return text.strip(_AROUND)


def first_id(text: bytes) -> int:
    """The id of the first of some bare lines."""
    return int(text[1 : text.index(b'"', 1)])


def last_id(text: bytes) -> int:
    """The id of the last of some bare lines."""
    start = text.index(b'"', text.rfind(b"\n") + 1) + 1
    return int(text[start : text.index(b'"', start)])
