"""Real processes, really killed."""

import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tinydb import TinyDB

from buffer import BufferDB

WRITER = """
import sys
from buffer import BufferDB
db = BufferDB(sys.argv[1], segment_bytes=16384, window_s=0.001)
consumer = db.consumer("cloud")
print("open", flush=True)
n = int(sys.argv[2])
while True:
    ids = db.insert_json([b'{"n":%d}' % (n + at) for at in range(7)])
    print("given", ids[0], ids[-1], flush=True)
    db.wait_durable(ids[-1])
    print("durable", ids[0], ids[-1], n, flush=True)
    n += 7
    batch = consumer.take(5)
    consumer.ack(batch)
    print("acked", batch.first, batch.last, flush=True)
"""


class Survivor:
    """Runs the writer over and over and holds it to what it said."""

    def __init__(self, path):
        self.path = path
        self.durable = {}
        self.given = 0
        self.acked = set()
        self.n = 0

    def round(self, lines):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(self.path), str(self.n)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        with process:
            for _ in range(lines):
                self.heard(process.stdout.readline().split())
            process.send_signal(signal.SIGKILL)
            for line in process.stdout:
                if line.endswith("\n"):
                    self.heard(line.split())
        assert process.returncode == -signal.SIGKILL

    def heard(self, words):
        match words:
            case ["given", first, last]:
                assert int(first) > self.given, "an id was given out twice"
                self.given = int(last)
            case ["durable", first, last, n]:
                for at, record_id in enumerate(range(int(first), int(last) + 1)):
                    self.durable[record_id] = {"n": int(n) + at}
                self.n = int(n) + 7
            case ["acked", first, last]:
                self.acked |= set(range(int(first), int(last) + 1))

    def check(self):
        for file in (self.path / "readings").glob("[as].*.json"):
            with TinyDB(file, access_mode="r") as stock:
                assert "readings" in stock.storage.read()
        with BufferDB(self.path, threaded=False) as db:
            found = {document.doc_id: dict(document) for document in db}
            lost = {key: value for key, value in self.durable.items() if found.get(key) != value}
            assert not lost
            consumer = db.consumer("cloud")
            owed = set(self.durable) - self.acked
            taken = set()
            batches = []
            while (batch := consumer.take(500)) is not None:
                batches.append(batch)
                taken |= {record.seq for record in batch.records}
            assert owed <= taken
            for batch in batches:
                consumer.release(batch)


@pytest.mark.parametrize("rounds", [4, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(600)])])
def test_what_was_durable_survives_kill_9(tmp_path, rounds):
    rng = random.Random(7)
    survivor = Survivor(tmp_path / "store")
    for _ in range(rounds):
        survivor.round(rng.randint(2, 200))
        survivor.check()
    assert len(survivor.durable) > rounds
