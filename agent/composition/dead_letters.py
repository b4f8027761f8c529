"""The dead letters of a buffer: taken again, sent again, or dropped, on somebody's order.

- A frame, message or reading that could not be processed goes through the pipeline again. What comes of it and that it is no
  dead letter any more become durable in one write (`agent.held`), so that it is taken exactly once, whenever the program is
  killed. What fails again stays what it is.
- What an upstream would not take is sent to it again under its old keys (`agent.sync.requeued`), if it wants all of it still: what
  goes to an upstream is acknowledged as a whole, and what nobody sent would be gone.

Removing letters from their table writes files anew, so it is done for many at a time, afterwards.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from agent.composition.parts import open_buffer
from agent.composition.processing import FixedTime, Processing
from agent.dead_letters import TABLE, Handled, Letter, Selection
from agent.partition import require_mounted
from agent.spine.errors import STORAGE
from agent.spine.factories import CollectionLayerFactory, ProcessingLayerFactory, StorageLayerFactory
from agent.spine.spine import open_spine
from agent.sync.requeued import LetterBatch, Requeued, batch_of
from buffer import StoreError
from collectors.enums import ClockQuality

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterable

    from agent.config import AgentConfig
    from agent.dead_letters import Order
    from agent.spine.spine import Spine
    from agent.sync.routes import Route
    from buffer import TinyDBBuffer

_log = logging.getLogger(__name__)

REQUEUED: Final = "requeued"
"""The small table of the letters on their way to an upstream: by id, `{"upstream": ..., "count": ...}`."""
_AT_ONCE: Final = 200
_AT_ONCE_BYTES: Final = 4 << 20
"""Letters that are dealt with at a time, and what they may hold together."""
_REMOVE_S: Final = 5.0
_REMOVE_LOOK_S: Final = 0.1
_REMOVE_MIN: Final = 50
"""Letters that arrived are removed when they are so many, or none is left on its way, or after that time."""


class DeadLetters:
    """Deals with the dead letters of a buffer.

    Args:
        buffer: Has them.
        processing: The way that they go again.
        spine: Errors, tasks, time.
    """

    def __init__(self, buffer: TinyDBBuffer, processing: Processing, spine: Spine) -> None:
        self._buffer = buffer
        self._processing = processing
        self._spine = spine
        self._routes: dict[str, Route | None] = {}
        """Of the upstreams there are."""
        self._requeued: dict[str, Requeued] = {}
        self._rows: dict[int, dict[str, Any]] = {}
        self._arrived: set[int] = set()
        self._staying: set[int] = set()
        self._arrival = asyncio.Event()
        self._turn = asyncio.Lock()
        self._is_undone = False

    async def begin(self) -> None:
        """Go on with what was ordered before the program ended."""
        try:
            await self._remove_taken()
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="remove_dead_letters")
        for key, row in self._buffer.state(REQUEUED).items():
            self._send(int(key), row)

    async def use(self, config: AgentConfig) -> None:
        """These upstreams there are: what is on its way to another is that no more, and a dead letter as before."""
        self._routes = {upstream.name: upstream.options.route() for upstream in config.upstream}
        astray = [key for key, row in self._rows.items() if row["upstream"] not in self._routes]
        if not astray:
            return
        async with self._turn:
            try:
                await self._forget(astray)
            except (StoreError, OSError) as error:
                await self._spine.errors.report(error, layer=STORAGE, operation="forget_requeued")

    def to(self, upstream: str) -> Requeued:
        """What is on its way to an upstream."""
        if upstream not in self._requeued:
            self._requeued[upstream] = Requeued(self._load, self._note_arrival, self._note_stay)
        return self._requeued[upstream]

    async def carry_out(self, order: Order) -> Handled:
        """Carry out a part of an order; the answer says after which id to go on.

        Raises:
            StoreError: The disk refuses; what was not taken is as it was.
        """
        async with self._turn:
            await self._undo_cut_short()
            upto = order.upto
            if upto is None:
                upto = self._buffer.database.log(TABLE).next_id - 1
            find = partial(self._find, order.selection, order.after, upto, sent_too=order.do == "drop")
            letters, following = await asyncio.to_thread(find)
            handled = await (self._drop(letters) if order.do == "drop" else self._requeue(letters))
            return handled.model_copy(update={"next": following, "upto": upto})

    async def _undo_cut_short(self) -> None:
        """Once after a start: remove what came of letters whose taking again a crash had cut short."""
        if self._is_undone:
            return

        taken = self._processing.taken_again

        def came_of_others() -> set[int]:
            log = self._buffer.database.log(TABLE)
            there = {letter_id: document.get("again") for letter_id, document in log.stream()}
            return {letter_id for letter_id, again in there.items() if again in there and again not in taken}

        cut_short = await asyncio.to_thread(came_of_others)
        await self._remove(cut_short)
        self._is_undone = True

    def _find(
        self, selection: Selection, after: int, upto: int, *, sent_too: bool
    ) -> tuple[list[Letter], int | None]:
        """Some of the letters that are meant, and after which id to go on."""
        hidden = self._processing.taken_again | self._arrived
        found: list[Letter] = []
        size = 0
        for letter_id, document in self._buffer.database.log(TABLE).stream(after + 1):
            if letter_id > upto:
                break
            if letter_id in hidden or (letter_id in self._rows and not sent_too):
                continue
            letter = Letter(letter_id, document)
            if not selection.matches(letter):
                continue
            found.append(letter)
            size += len(str(document))
            if len(found) >= _AT_ONCE or size >= _AT_ONCE_BYTES:
                return found, letter_id
        return found, None

    async def _requeue(self, letters: Iterable[Letter]) -> Handled:
        left: list[tuple[int, str]] = []
        taken, rows = 0, {}
        for letter in letters:
            if letter.upstream is not None:
                row = self._row_of(letter)
                if isinstance(row, str):
                    left.append((letter.letter_id, row))
                else:
                    rows[letter.letter_id] = row
                continue
            reason = await self._processing.take_letter(letter)
            if reason is None:
                taken += 1
            else:
                left.append((letter.letter_id, reason))
        if taken:
            await self._processing.commit()
            await self._remove_taken()
        if rows:
            await self._buffer.state(REQUEUED).put_all({str(key): row for key, row in rows.items()})
            for letter_id, row in rows.items():
                self._send(letter_id, row)
        return Handled(taken=taken, sending=len(rows), left=tuple(left))

    def _row_of(self, letter: Letter) -> dict[str, Any] | str:
        """That a letter is on its way; or why it cannot be."""
        batch = self._batch_of(letter)
        if isinstance(batch, str):
            return batch
        return {"upstream": letter.upstream, "count": len(batch.records)}

    def _batch_of(self, letter: Letter) -> LetterBatch | str:
        """As it is sent; or why it cannot be, as things are now."""
        if letter.upstream is None or letter.upstream not in self._routes:
            return f"there is no upstream {letter.upstream} in the configuration any more"
        batch, route = batch_of(letter), self._routes[letter.upstream]
        if isinstance(batch, str) or route is None:
            return batch
        unwanted = sum(not route.wants(record.document) for record in batch.records)
        if unwanted:
            return (
                f"the upstream {letter.upstream} does not want {unwanted} of its {len(batch.records)} readings any more:"
                " see its `sources`, `lanes` and `tags`"
            )
        return batch

    def _send(self, letter_id: int, row: dict[str, Any]) -> None:
        self._rows[letter_id] = row
        self.to(row["upstream"]).add(letter_id, row["count"])

    async def _drop(self, letters: Iterable[Letter]) -> Handled:
        ids = {letter.letter_id for letter in letters}
        await self._remove(ids)
        return Handled(taken=len(ids))

    async def _remove_taken(self) -> None:
        if ids := self._processing.taken_again:
            await asyncio.to_thread(self._buffer.database.table(TABLE).remove, doc_ids=ids)
            self._processing.letters_removed(ids)

    async def _remove(self, ids: set[int]) -> None:
        """Remove letters that have found their end: first from the table, so that none is sent again for ever."""
        if not ids:
            return
        await asyncio.to_thread(self._buffer.database.table(TABLE).remove, doc_ids=ids)
        await self._forget(ids & self._rows.keys())

    async def _forget(self, ids: Collection[int]) -> None:
        """These are on their way no more."""
        if ids:
            await self._buffer.state(REQUEUED).put_all(dict.fromkeys(map(str, ids)))
        for letter_id in ids:
            self._requeued[self._rows.pop(letter_id)["upstream"]].discard(letter_id)

    # What is on its way

    async def _load(self, letter_id: int) -> LetterBatch | str | None:
        document = await asyncio.to_thread(self._buffer.database.log(TABLE).find, letter_id)
        return None if document is None else self._batch_of(Letter(letter_id, document))

    def _note_arrival(self, letter_id: int) -> None:
        self._arrived.add(letter_id)
        self._arrival.set()

    def _note_stay(self, letter_id: int, why: str) -> None:
        _log.warning("dead letter %d stays one and is not sent again: %s", letter_id, why)
        self._staying.add(letter_id)
        self._arrival.set()

    async def run(self) -> None:
        """Remove what has arrived, until cancelled."""
        while True:
            await self._arrival.wait()
            self._arrival.clear()
            await self._gather()
            await self.settle()

    async def _gather(self) -> None:
        """Let more arrive, since removing them costs the same for many."""
        until_s = self._spine.clock.monotonic_s() + _REMOVE_S
        while len(self._arrived) < _REMOVE_MIN and any(self._requeued.values()):
            if self._spine.clock.monotonic_s() >= until_s:
                return
            await asyncio.sleep(_REMOVE_LOOK_S)

    async def settle(self) -> None:
        """Remove what has arrived; what has to stay is on its way no more.

        Raises:
            StoreError: The disk refuses; it is tried again.
        """
        async with self._turn:
            arrived, staying = set(self._arrived), set(self._staying)
            try:
                await self._remove(arrived)
                await self._forget(staying & self._rows.keys())
            except BaseException:
                self._arrival.set()
                raise
            self._arrived -= arrived
            self._staying -= staying


@asynccontextmanager
async def open_dead_letters(config: AgentConfig) -> AsyncIterator[DeadLetters]:
    """The dead letters of a buffer that no agent has open.

    Raises:
        BufferLocked: One has.
        ConnectionError: It cannot be opened.
        StoreError: The disk refuses.
    """
    # In a thread, since it asks the machine who it is.
    await asyncio.to_thread(require_mounted, config.buffer.path)
    buffer = await asyncio.to_thread(open_buffer, config, clock_trusted=lambda: False)
    async with open_spine() as spine:
        await buffer.connect()
        try:
            storage = StorageLayerFactory(spine).create_storage_manager()
            await storage.register_backend(buffer, {})
            processing = Processing(
                CollectionLayerFactory(spine).create_metadata_parser(),
                ProcessingLayerFactory(spine).create_processing_manager(),
                storage,
                buffer,
                FixedTime(0, ClockQuality.ESTIMATED),
                spine,
            )
            await processing.begin(config)
            letters = DeadLetters(buffer, processing, spine)
            await letters.begin()
            await letters.use(config)
            yield letters
            await processing.commit()
        finally:
            await buffer.disconnect()
