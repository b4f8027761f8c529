"""Readings that were set aside as undeliverable and are to be sent again, under the keys that they have.

Their dead letters are batches of the upstream's consumer, beside those of the buffer: each is sent whole, as it was set aside.
Acknowledged, or set aside anew, it is done. Until then its row in the small table `requeued` says that it is on its way, over
restarts, too. One that cannot go, since its upstream does not want it any more, say, stays the dead letter that it is. What arrives twice because of a crash is recognised by its keys at the other end.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from collectors.enums import Lane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from agent.dead_letters import Letter
    from agent.sync.batches import Batch


@dataclass(frozen=True, slots=True)
class LetterRecord:
    """One of its readings."""

    seq: int
    document: dict[str, Any]


@dataclass(frozen=True, slots=True)
class LetterBatch:
    """A dead letter as a batch."""

    letter_id: int
    device_id: str
    store_id: str
    records: Sequence[LetterRecord]
    first: int = 0
    """It covers no ids of the buffer: acknowledging it moves no mark there."""
    last: int = 0

    def __len__(self) -> int:
        return len(self.records)

    @property
    def encoded(self) -> None:
        """It does not lie in the buffer as batches do."""
        return

    def forget_parsed(self) -> None:
        """It is nowhere else, and so it is kept."""


def batch_of(letter: Letter) -> LetterBatch | str:
    """A dead letter as a batch, or why it can be none."""
    pairs, document = letter.pairs(), letter.document
    if not pairs or not all(isinstance(document.get(key), str) for key in ("device_id", "store_id")):
        return "it does not say whose readings it holds"
    if any("values" not in reading for _, reading in pairs):
        return "its readings are no JSON, and could be kept as text only"
    records = [LetterRecord(seq, reading) for seq, reading in pairs]
    return LetterBatch(letter.letter_id, document["device_id"], document["store_id"], records)


class Requeued:
    """The dead letters on their way to one upstream.

    Args:
        load: Reads one; None when it is there no more, or why it cannot be sent.
        done: Is told of one that found its end.
        stays: Is told of one that cannot be sent, and why.
    """

    def __init__(
        self,
        load: Callable[[int], Awaitable[LetterBatch | str | None]],
        done: Callable[[int], None],
        stays: Callable[[int, str], None],
    ) -> None:
        self._load = load
        self._done = done
        self._stays = stays
        self._waiting: OrderedDict[int, int] = OrderedDict()
        self._sending: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._waiting) + len(self._sending)

    @property
    def readings(self) -> int:
        """How many readings they hold."""
        return sum(self._waiting.values()) + sum(self._sending.values())

    def add(self, letter_id: int, count: int) -> None:
        """Send one, with so many readings."""
        self._waiting[letter_id] = count

    def discard(self, letter_id: int) -> None:
        """Send it no more; what is in flight may still arrive."""
        self._waiting.pop(letter_id, None)
        self._sending.pop(letter_id, None)

    @property
    def ready(self) -> bool:
        """Whether there is one to take."""
        return bool(self._waiting)

    async def take(self) -> LetterBatch | None:
        """The next one."""
        while self._waiting:
            letter_id, count = self._waiting.popitem(last=False)
            self._sending[letter_id] = count
            try:
                batch = await self._load(letter_id)
            except (RuntimeError, OSError) as error:  # this one keeps no others back
                batch = f"it cannot be read: {error}"
            except BaseException:
                self.release(letter_id)
                raise
            if isinstance(batch, LetterBatch):
                return batch
            if batch is None:
                self.ack(letter_id)  # it made room for newer ones
            else:
                self._sending.pop(letter_id, None)
                self._stays(letter_id, batch)
        return None

    def release(self, letter_id: int) -> None:
        """It was not sent: it is the next one again."""
        count = self._sending.pop(letter_id, None)
        if count is not None:
            self._waiting[letter_id] = count
            self._waiting.move_to_end(letter_id, last=False)

    def ack(self, letter_id: int) -> None:
        """It found its end."""
        self._sending.pop(letter_id, None)
        self._done(letter_id)


class RequeueingConsumer:
    """A consumer of the buffer that gives dead letters on their way first; not among alarms, and not among what is live.

    Args:
        consumer: The buffer's.
        requeued: The dead letters.
    """

    def __init__(self, consumer: Any, requeued: Requeued) -> None:
        self._consumer = consumer
        self._requeued = requeued

    @property
    def backlog(self) -> int:
        """Readings that are not acknowledged, those of dead letters on their way included."""
        return int(self._consumer.backlog) + self._requeued.readings

    @property
    def newest_id(self) -> int:
        """The highest durable id of the buffer."""
        return int(self._consumer.newest_id)

    async def take(self, n: int, max_bytes: int | None = None, **part: Any) -> Batch | None:
        """The next batch; a dead letter comes whole, however large. Cancelling takes none."""
        if self._requeued.ready and _is_backlog(part):
            batch = await self._requeued.take()
            if batch is not None:
                return batch
        taken: Batch | None = await self._consumer.take(n, max_bytes, **part)
        return taken

    def ack(self, batch: Any) -> None:
        """Everything in exactly this batch is delivered or set aside."""
        if isinstance(batch, LetterBatch):
            self._requeued.ack(batch.letter_id)
        else:
            self._consumer.ack(batch)

    def release(self, batch: Any) -> None:
        """Give a taken batch back: it may be taken again."""
        if isinstance(batch, LetterBatch):
            self._requeued.release(batch.letter_id)
        else:
            self._consumer.release(batch)

    async def wait(self, timeout_s: float, **part: Any) -> bool:
        """Return when there may be something to take; False when the time is over first."""
        if self._requeued.ready and _is_backlog(part):
            return True
        return bool(await self._consumer.wait(timeout_s, **part))


def _is_backlog(part: Mapping[str, Any]) -> bool:
    """Whether it is neither alarms only that are asked for, nor live readings only."""
    return part.get("lane") != Lane.ALARM.value and "after" not in part
