"""What a buffer is put through: steps of all kinds, each telling what it was promised.

A step is a name and a number; the number decides its details, so that a list of steps says
everything, can be drawn by hypothesis, and shrinks.
"""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from buffer import Batch, BufferDB, DiskFault, UnknownRecord
from tests.rigs.promises import READINGS, Event, Promises

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Step = tuple[str, int]
NOTES = "notes"
"""A second table with a log."""
STEPS = {
    "insert": 30,
    "flush": 16,
    "commit_small": 10,
    "drain": 12,
    "drain_all": 5,
    "delete": 4,
    "edit": 5,
    "remove": 3,
    "put": 5,
    "note": 3,
    "drop_notes": 1,
    "maintain": 8,
    "reopen": 2,
}
"""All steps, with how often each comes."""


def random_steps(rng: random.Random, n: int) -> list[Step]:
    """Some steps."""
    names = rng.choices(list(STEPS), list(STEPS.values()), k=n)
    return [(name, rng.randrange(1 << 16)) for name in names]


class Workload:
    """Carries out steps.

    A refusal of the disk is part of life: what it leaves open stays open in the promises.
    """

    def __init__(
        self,
        promises: Promises,
        opening: Callable[[], BufferDB],
        tell: Callable[[Event], None] | None = None,
    ) -> None:
        """Open the buffer.

        Args:
            promises: Those so far; they grow.
            opening: Opens it.
            tell: Is told each event first, where somebody else keeps promises, too.
        """
        self.promises = promises
        self._also = tell
        self._opening = opening
        self.db = opening()

    def tell(self, *event: Any) -> None:
        """One event."""
        if self._also is not None:
            self._also(list(event))
        self.promises.tell(list(event))

    def run(self, steps: Sequence[Step]) -> None:
        """Carry out steps."""
        for name, number in steps:
            with suppress(DiskFault):  # such as a table that cannot even be opened
                getattr(self, f"_{name}")(random.Random(number))

    # -- records

    def _offer(self, rng: random.Random, table: str, sizes: Sequence[int]) -> None:
        documents = []
        for size in sizes:
            number = self.promises.next_number()
            lane = rng.choice(["", "", ',"lane":"alarm"'])
            documents.append(f'{{"n":{number}{lane},"pad":"{"x" * size}"}}')
        if self.db.log(table).has_room():  # else what was offered may be refused
            self.tell("offered", table, self.db.log(table).next_id, documents)
            with suppress(DiskFault):
                self.db.insert_json([each.encode() for each in documents], table=table)
            self._note_durable()

    def _note_durable(self) -> None:
        for table in (READINGS, NOTES):
            if self.promises.table(table).waiting:
                upto = self.db.durable_id(table)
                if upto >= min(self.promises.table(table).waiting):
                    self.tell("durable", table, upto)

    def _insert(self, rng: random.Random) -> None:
        size = rng.choice([0, 10, 300])
        self._offer(rng, READINGS, [size] * rng.choice([1, 1, 2, 5, 30]))

    def _note(self, rng: random.Random) -> None:
        self._offer(rng, NOTES, [rng.choice([0, 200])] * rng.choice([1, 12]))

    def _flush(self, _: random.Random) -> None:
        with suppress(DiskFault):
            self.db.flush()
        self._note_durable()

    def _commit_small(self, rng: random.Random) -> None:
        self._offer(rng, READINGS, [rng.randrange(40)])
        self._flush(rng)

    def _delete(self, rng: random.Random) -> None:
        alive = self.promises.table(READINGS).alive()
        chosen = rng.choice(alive or [0])
        # Unknown: a policy's change that a fault had left undone is carried out first, and lets it go.
        with suppress(DiskFault, UnknownRecord):
            if self.db.log(READINGS).find(chosen) is None:
                return  # nothing there, or a policy let it go
            self.tell("removing", READINGS, [chosen])
            self.db.delete(chosen)
            self.tell("removed", READINGS, [chosen])
        self._note_durable()

    def _some(self, rng: random.Random) -> list[int]:
        alive = self.promises.table(READINGS).alive()
        n = min(len(alive), rng.choice([1, 5, 40]))
        return sorted(rng.sample(alive, n))

    def _edit(self, rng: random.Random) -> None:
        """Change some documents in several segments."""
        some = self._some(rng)
        if not some:
            return
        mark = self.promises.next_number()
        self.tell("editing", READINGS, mark, some)

        def add(document: dict[str, Any]) -> None:
            document.setdefault("e", []).append(mark)

        with suppress(DiskFault):
            self.db.table(READINGS).update(add, doc_ids=some)
            self.tell("edited", READINGS, mark)
        self._note_durable()

    def _remove(self, rng: random.Random) -> None:
        some = self._some(rng)
        if some:
            self.tell("removing", READINGS, some)
            with suppress(DiskFault):
                self.db.table(READINGS).remove(doc_ids=some)
                self.tell("removed", READINGS, some)
            self._note_durable()

    def _drop_notes(self, _: random.Random) -> None:
        self._flush(_)
        table = self.promises.table(NOTES)
        if table.waiting:
            return
        every = sorted(table.given.keys() - table.gone - table.void)
        self.tell("removing", NOTES, every)
        with suppress(DiskFault):
            self.db.drop_table(NOTES)
            self.tell("removed", NOTES, every)
            assert NOTES not in self.db.tables()

    # -- consumers

    def _drain(self, rng: random.Random) -> None:
        with suppress(DiskFault):
            consumer = self._consumer(rng)
            taken: list[Batch] = []
            for _ in range(rng.randint(1, 4)):
                lane = rng.choice([None, None, "alarm", "normal"])
                batch = consumer.take(rng.choice([1, 3, 10, 100]), newest=rng.random() < 0.3, lane=lane)
                if batch is not None:
                    taken.append(batch)
            rng.shuffle(taken)
            for batch in taken:
                self._settle(consumer, batch, arrived=rng.random() < 0.7)

    def _drain_all(self, rng: random.Random) -> None:
        with suppress(DiskFault):
            consumer = self._consumer(rng)
            while (batch := consumer.take(50)) is not None:
                self._settle(consumer, batch, arrived=True)

    def _consumer(self, rng: random.Random) -> Any:
        consumer = self.db.consumer(rng.choice(["one", "two"]))
        if consumer.name not in self.promises.consumers:
            self.tell("registered", consumer.name)
        return consumer

    def _settle(self, consumer: Any, batch: Batch, *, arrived: bool) -> None:
        ids = [record.seq for record in batch.records]
        durable = self.db.durable_id()
        assert all(each <= durable for each in ids), "taken before it was durable"
        self._note_durable()
        if arrived:
            self.tell("taken", batch.store_id, ids)
            self.tell("acked", consumer.name, ids)
            consumer.ack(batch)
        else:
            consumer.release(batch)

    # -- the rest

    def _put(self, rng: random.Random) -> None:
        key = rng.choice(["a", "b"])
        value = {"n": rng.randrange(1000), "pad": "y" * rng.choice([0, 900])}
        self.tell("putting", key, value)
        with suppress(DiskFault):
            self.db.small_table("device_state").put(key, value)
            self.tell("put", key)

    def _maintain(self, _: random.Random) -> None:
        with suppress(DiskFault):
            self.db.maintain()
            self.tell("settled")

    def close(self) -> bool:
        """Close the buffer; whether it could be closed in order."""
        try:
            self.db.close()
        except DiskFault:
            self.tell("ended")
            return False
        for table, promised in self.promises.tables.items():
            if promised.waiting:
                self.tell("durable", table, max(promised.waiting))
        self.tell("settled")
        return True

    def _reopen(self, _: random.Random) -> None:
        self.close()
        self.db = self._opening()
