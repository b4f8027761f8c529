"""Any sequence of calls and faults keeps the promises: hypothesis looks for one that does not."""

import random
from contextlib import suppress
from errno import EIO, ENOSPC, EROFS

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from buffer import BufferDB
from tests.rigs.crash_points import OPTIONS, ROOT, DiskClock, drawn_from
from tests.rigs.faulty_disk import FaultyDisk
from tests.rigs.promises import Promises
from tests.rigs.workload import STEPS, Workload

WRITES = {"make_directory", "create", "write", "sync", "truncate", "rename", "unlink", "sync_directory"}
REFUSALS = {
    "EIO of writes": (EIO, {"write", "sync", "sync_directory"}),
    "EIO of syncs": (EIO, {"sync"}),
    "ENOSPC": (ENOSPC, {"create", "write", "make_directory"}),
    "EROFS": (EROFS, WRITES - {"sync", "sync_directory"}),
}


class BufferOnAFailingDisk(RuleBasedStateMachine):
    @initialize(seed=st.integers(0, 1 << 16), ordered=st.booleans(), options=st.sampled_from(OPTIONS))
    def begin(self, seed, ordered, options):
        self.rng = random.Random(seed)
        self.drawn = drawn_from(seed)
        self.drawn.__enter__()
        self.disk = FaultyDisk(self.rng, ordered=ordered)
        self.options = {"segment_bytes": 4096, "keep_delivered_s": 1e12, **options}
        self.options["clock"] = DiskClock(self.disk)
        self.promises = Promises()
        self.refuses = False
        self.start()

    def opened(self):
        return BufferDB(ROOT, fs=self.disk, threaded=False, device_id="d", machine_id="m", **self.options)

    def start(self):
        self.work = None
        with suppress(OSError):  # a directory that cannot be listed
            self.work = Workload(self.promises, self.opened)

    def teardown(self):
        if hasattr(self, "drawn"):
            self.end("most")
            self.drawn.__exit__(None, None, None)

    @rule(by_s=st.sampled_from([1, 1e4, 1e8, -1, -1e4, -1e8]))
    def jump(self, by_s):
        """The clock jumps."""
        self.disk.now_s += by_s

    @precondition(lambda self: self.work)
    @rule(name=st.sampled_from(sorted(set(STEPS) - {"reopen"})), number=st.integers(0, 1 << 16))
    def step(self, name, number):
        self.work.run([(name, number)])

    @rule(refusal=st.sampled_from(sorted(REFUSALS)), calls=st.integers(1, 3) | st.just(1 << 30))
    def refuse(self, refusal, calls):
        """The disk refuses from now on: some calls, or all for ever."""
        error, which = REFUSALS[refusal]
        left = [calls]

        def refused(what):
            if what not in which or left[0] <= 0:
                return None
            left[0] -= 1
            return error

        self.disk.fail_when = refused
        self.refuses = True

    @rule(calls=st.integers(1, 3))
    def refuse_to_read(self, calls):
        """A disk that never reads again has nothing to keep a promise with."""
        ahead = range(self.disk.looks + 1, self.disk.looks + 1 + calls)
        self.disk.fail_look_at = dict.fromkeys(ahead, EIO)

    @precondition(lambda self: self.refuses)
    @rule()
    def recover(self):
        self.disk.fail_when = lambda _: None
        self.refuses = False

    @rule()
    def forget_pages(self):
        self.disk.forget_pages()

    @rule()
    def kill(self):
        self.promises.tell(["ended"])
        self.disk.kill()
        self.start()

    @precondition(lambda self: self.work)
    @rule()
    def close(self):
        with suppress(OSError):
            self.work.close()
        self.disk.kill()
        self.start()

    @rule(kept=st.sampled_from(["some", "least", "most"]))
    def cut(self, kept):
        self.end(kept)
        self.start()

    @rule(kept=st.sampled_from(["some", "least", "most"]), seed=st.integers(0, 1 << 16))
    def look_at_a_survivor(self, kept, seed):
        """What would be left now keeps the promises; the life goes on."""
        after = self.disk.survivor(random.Random(seed), kept)
        self.promises.check(BufferDB(ROOT, fs=after, threaded=False, device_id="d", **self.options))

    def end(self, kept):
        self.recover()
        self.promises.tell(["ended"])
        self.disk.power_cut(kept)
        db = self.opened()
        self.promises.settle(self.promises.check(db))
        self.promises.settle_rows(db)
        self.disk.kill()


TestBufferOnAFailingDisk = BufferOnAFailingDisk.TestCase
TestBufferOnAFailingDisk.settings = settings(
    max_examples=120, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
