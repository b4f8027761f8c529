"""One random life of a buffer on a disk that fails, checked against what was promised."""

import json
import random
from contextlib import suppress
from errno import EIO, ENOSPC

from buffer import Batch, BufferDB, BufferFull, DiskFault
from tests.rigs.faulty_disk import FaultyDisk, PowerCut

ROOT = "/store"


class Life:
    """The promises, and a buffer that is to keep them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = FaultyDisk(self.rng)
        self.prefill_small = True
        self.handed_out: dict[int, bytes] = {}
        self.waiting: set[int] = set()
        """Handed out in the present life, not known to be durable."""
        self.durable: set[int] = set()
        self.gone: set[int] = set()
        """Deleted, perhaps: whether the deletion was durable is not known."""
        self.in_doubt: dict[int, set[bytes]] = {}
        self.acked: dict[str, set[int]] = {}
        self.cuts = 0
        self.number = 0

    # -- the life

    def run(self, lives: int = 3, steps: int = 12) -> None:
        for _ in range(lives):
            self.live(steps)
        self.disk.fail_at.clear()
        self.disk.cut_at = None
        self.db = self.open()
        self.check()
        self.db.close()
        self.db = self.open()
        self.check()
        self.db.close()

    def live(self, steps: int) -> None:
        rng, disk = self.rng, self.disk
        ahead = rng.choice([5, 20, 60, 150])
        fault = rng.random()
        if fault < 0.6:
            disk.cut_at = disk.operations + rng.randint(1, ahead)
        elif fault < 0.8:
            at = disk.operations + rng.randint(1, ahead)
            for number in range(at, at + rng.choice([1, 1, 2, 5, 20])):
                disk.fail_at[number] = rng.choice([EIO, ENOSPC])
            disk.cut_at = disk.operations + rng.randint(1, 2 * ahead)
        self.waiting = set()
        try:
            self.db = self.open()
            for _ in range(steps):
                self.step()
            if rng.random() < 0.5:
                with suppress(DiskFault):
                    self.db.close()
                    self.durable |= self.waiting
        except PowerCut:
            self.cuts += 1
        except OSError:
            pass  # the directory could not even be listed or locked
        if rng.random() < 0.8:
            disk.power_cut()
        else:
            disk.kill()

    def open(self) -> BufferDB:
        return BufferDB(
            ROOT,
            fs=self.disk,
            threaded=False,
            segment_bytes=4096,
            keep_delivered_s=1e12,
            device_id="d",
            machine_id=self.rng.choice(["m", "m", "m", "n"]),
        )

    def step(self) -> None:
        choice = self.rng.random()
        if choice < 0.35:
            self.insert()
        elif choice < 0.6:
            self.flush()
        elif choice < 0.75:
            self.drain()
        elif choice < 0.8:
            self.delete()
        elif choice < 0.85:
            self.edit()
        elif choice < 0.95:
            with suppress(DiskFault):
                self.db.maintain()
        else:
            with suppress(DiskFault):
                self.db.small_table("device_state").put("n", self.number)

    def insert(self) -> None:
        documents = []
        for _ in range(self.rng.choice([1, 1, 2, 5, 30])):
            self.number += 1
            documents.append(b'{"n":%d,"pad":"%s"}' % (self.number, b"x" * self.rng.choice([0, 10, 300])))
        with suppress(BufferFull):
            for record_id, document in zip(self.db.insert_json(documents), documents, strict=True):
                assert record_id not in self.handed_out, f"id {record_id} was given out twice"
                assert record_id > max(self.durable, default=0)
                self.handed_out[record_id] = document
                self.waiting.add(record_id)

    def flush(self) -> None:
        with suppress(DiskFault):
            self.db.flush()
        self.note_durable()

    def note_durable(self) -> None:
        durable_id = self.db.durable_id()
        self.durable |= {each for each in self.waiting if each <= durable_id}
        self.waiting = {each for each in self.waiting if each > durable_id}

    def drain(self) -> None:
        with suppress(DiskFault):
            consumer = self.db.consumer(self.rng.choice(["one", "two"]))
            done = self.acked.setdefault(consumer.name, set())
            taken: list[Batch] = []
            for _ in range(self.rng.randint(1, 4)):
                batch = consumer.take(self.rng.choice([1, 3, 10, 100]))
                if batch is not None:
                    self.check_batch(batch)
                    taken.append(batch)
            self.rng.shuffle(taken)
            for batch in taken:
                if self.rng.random() < 0.7:
                    consumer.ack(batch)
                    done |= {record.seq for record in batch.records}
                else:
                    consumer.release(batch)

    def delete(self) -> None:
        alive = sorted(self.durable - self.gone)
        if not alive:
            return
        chosen = self.rng.choice(alive)
        self.gone.add(chosen)
        with suppress(DiskFault):
            self.db.delete(chosen)
        self.note_durable()

    def edit(self) -> None:
        """Change some documents in several segments, all or none."""
        alive = sorted(self.durable - self.gone)
        if not alive:
            return
        some = set(self.rng.sample(alive, min(len(alive), self.rng.choice([1, 5, 40]))))
        self.number += 1
        mark = self.number
        for each in some:
            before = json.loads(self.handed_out[each])
            self.in_doubt.setdefault(each, {self.handed_out[each]}).add(
                json.dumps({**before, "edited": mark}, separators=(",", ":")).encode()
            )
        try:
            self.db.table("readings").update({"edited": mark}, doc_ids=some)
        except DiskFault:
            pass
        else:
            for each in some:
                before = json.loads(self.handed_out[each])
                self.handed_out[each] = json.dumps({**before, "edited": mark}, separators=(",", ":")).encode()
                self.in_doubt.pop(each)
        self.note_durable()

    # -- the promises

    def check_batch(self, batch: Batch) -> None:
        for record in batch.records:
            assert record.seq <= self.db.durable_id()
            assert record.seq in self.handed_out, f"{record.seq} was never given out"
            self.check_document(record.seq, record.document)
        assert [each.seq for each in batch.records] == sorted({each.seq for each in batch.records})
        self.note_durable()

    def check_document(self, record_id: int, document: object) -> None:
        possible = self.in_doubt.get(record_id, set()) | {self.handed_out[record_id]}
        assert document in [json.loads(each) for each in possible], f"{record_id}: {document}"

    def check(self) -> None:
        """Everything that was durable is there, in files that any JSON parser opens."""
        db = self.db
        present = dict(db.log("readings").stream())
        delivered = set.intersection(*self.acked.values()) if self.acked else set()  # goes on a full disk
        missing = self.durable - self.gone - delivered - set(present)
        assert not missing, f"lost: {sorted(missing)[:10]}, {db.ledger.items()}"
        for record_id, document in present.items():
            assert record_id in self.handed_out
            self.check_document(record_id, document)
        for name, file in self.disk.files.items():
            if name.startswith(f"{ROOT}/readings/") and not name.startswith(f"{ROOT}/readings/t."):
                assert "readings" in json.loads(bytes(file.cache)), name
        for loss in (entry for _, entry in db.ledger.items()):
            removed = loss["why"] == "removed" and set(range(loss["first"], loss["last"] + 1)) & self.gone
            assert not loss["count"] or removed or loss["why"] == "damaged or torn at the end", loss
        assert db.durable_id() >= max(self.durable, default=0)
        for name in ("one", "two"):
            self.check_consumer(name, set(present))

    def check_consumer(self, name: str, present: set[int]) -> None:
        consumer = self.db.consumer(name)
        backlog = consumer.backlog
        delivered, batches = set(), []
        while (batch := consumer.take(7)) is not None:
            assert batch.store_id in {epoch.store_id for epoch in self.db.epochs}
            batches.append(batch)
            delivered |= {record.seq for record in batch.records}
        owed = present - self.acked.get(name, set()) - self.gone
        assert owed <= delivered, f"{name} never gets {sorted(owed - delivered)[:10]}"
        assert backlog == len(delivered), f"backlog {backlog}, delivered {len(delivered)}"
        for batch in batches:
            consumer.release(batch)
