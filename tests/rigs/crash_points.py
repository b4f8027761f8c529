"""Lives of a buffer on a disk that fails: at any of their moments the power may go.

A *crash point* is one moment (before one changing call of the file system) and one of the states
that a power cut then may leave. The buffer is opened on it, and held to what had been promised by
that moment; the life itself goes on. Some of these openings are cut as well, several times in a
row; some go on for a while before they are cut.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from errno import EIO, ENOSPC, EROFS
from itertools import count
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from buffer import BufferDB, StoreError
from tests.rigs.faulty_disk import FaultyDisk, Kept, PowerCut
from tests.rigs.promises import FAR, Promises
from tests.rigs.workload import Step, Workload, random_steps

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = "/store"
FAULTS = ("none", "none", "once", "burst", "for ever", "full", "read only", "reads")
ENDS = ("cut", "cut", "cut", "kill", "close")


@dataclass(frozen=True)
class Life:
    """One life of a process.

    Attributes:
        steps: What it does.
        fault: What its disk does.
        at: After how many calls it begins to.
        end: How it ends: the power goes, the process is killed, or it closes.
        machine: Which machine it is on.
    """

    steps: tuple[Step, ...]
    fault: str = "none"
    at: int = 0
    end: str = "cut"
    machine: str = "m"


@dataclass(frozen=True)
class Plan:
    """Some lives on one disk."""

    seed: int
    lives: tuple[Life, ...]
    ordered: bool = True
    options: dict[str, Any] = field(default_factory=dict)


OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {},
    {"keep_delivered_s": 0},
    {"quota_bytes": 16384},
    {"quota_bytes": 16384, "full": "drop_newest"},
    {"quota_bytes": 16384, "full": "block"},
    {"quota_bytes": 16384, "full": {"normal": "drop_oldest", "alarm": "block"}},
    {"quota_bytes": 16384, "full": {"normal": "drop_newest", "alarm": "drop_oldest"}},
    {"max_age_s": 0.5},
    {"sync": "each"},
)


def random_plan(seed: int, *, lives: int = 3, steps: int = 14) -> Plan:
    """The plan of a seed."""
    rng = random.Random(seed)
    return Plan(
        seed,
        tuple(
            Life(
                tuple(random_steps(rng, rng.randint(1, 2 * steps))),
                rng.choice(FAULTS),
                rng.randrange(120),
                rng.choice(ENDS),
                rng.choice("mmmn"),
            )
            for _ in range(lives)
        ),
        ordered=rng.random() < 0.5,
        options=dict(rng.choice(OPTIONS)),
    )


class DiskClock:
    """The time that a disk has."""

    def __init__(self, disk: FaultyDisk) -> None:
        self._disk = disk

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._disk.now_s, UTC)

    def boottime_ns(self) -> int:
        return int(self._disk.now_s * 1e9)

    def monotonic_s(self) -> float:
        return self._disk.now_s


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """What the buffer draws by itself is drawn from a seed, so that what it does can be repeated."""
    rng = random.Random(seed)
    jumps = count(1)
    with ExitStack() as stack:
        for name in ("secrets.token_hex", "buffer.identity.token_hex"):
            stack.enter_context(patch(name, lambda n: rng.randbytes(n).hex()))
        stack.enter_context(patch("secrets.randbelow", lambda n: next(jumps) * FAR % n))
        yield


class BrokenPromise(AssertionError):
    """What a crash point showed, and the seed that shows it again."""


def try_points(n: int, first_seed: int, *, ordered: bool | None = None) -> tuple[int, int]:
    """Try at least `n` crash points, of the plans of as many seeds as it takes.

    Args:
        n: How many.
        first_seed: Where to begin.
        ordered: How directories behave (see `FaultyDisk`); None: as each plan says.

    Returns:
        How many crash points were tried, and the seed to go on with.

    Raises:
        BrokenPromise: One found a fault.
    """
    tried, seed = 0, first_seed
    while tried < n:
        plan = random_plan(seed)
        if ordered is not None:
            plan = replace(plan, ordered=ordered)
        try:
            tried += CrashPoints(plan).run()
        except Exception as error:
            raise BrokenPromise(f"seed {seed}, ordered={plan.ordered}: {error}") from error
        seed += 1
    return tried, seed


class CrashPoints:
    """Carries out a plan, and tries crash points on the way.

    Attributes:
        tried: How many crash points were tried.
    """

    def __init__(self, plan: Plan, *, density: float = 0.1, states: int = 2) -> None:
        """Prepare it.

        Args:
            plan: The lives.
            density: The share of moments that is tried: a low one leaves time for more plans.
            states: How many random surviving states of each, beside the two extremes.
        """
        self.plan = plan
        self.tried = 0
        self._rng = random.Random(plan.seed)
        self._density = density
        self._states = states
        self._promises = Promises()
        self._disk = FaultyDisk(self._rng, ordered=plan.ordered)
        self._machine = "m"

    def run(self) -> int:
        """Live all lives; gives how many crash points were tried.

        Raises:
            AssertionError: A promise was broken.
        """
        with drawn_from(self.plan.seed):
            for life in self.plan.lives:
                self._live(life)
                self._go_on()
        return self.tried

    def _open(self, disk: FaultyDisk) -> BufferDB:
        return BufferDB(
            ROOT,
            fs=disk,
            threaded=False,
            clock=DiskClock(disk),
            device_id="d",
            machine_id=self._machine,
            **{"segment_bytes": 4096, "keep_delivered_s": 1e12, **self.plan.options},
        )

    # -- a life

    def _live(self, life: Life) -> None:
        disk = self._disk
        self._machine = life.machine
        self._set_fault(life)
        disk.before_change = self._moment
        with suppress(OSError):  # it could not be opened: listing or locking failed
            workload = Workload(self._promises, lambda: self._open(disk))
            workload.run(life.steps)
            if life.end == "close":
                workload.close()
        disk.before_change = lambda: None
        disk.fail_when = lambda _: None
        self._promises.tell(["ended"])
        if life.end == "cut":
            self._try_states(disk)
            disk.power_cut()
        else:
            if self._rng.random() < 0.3:
                disk.forget_pages()
            disk.kill()

    def _set_fault(self, life: Life) -> None:
        disk, rng = self._disk, random.Random(life.at)
        at = disk.operations + life.at
        if life.fault in {"once", "burst"}:
            length = 1 if life.fault == "once" else rng.choice([2, 5, 20])
            disk.fail_at = {number: rng.choice([EIO, ENOSPC]) for number in range(at, at + length)}
        elif life.fault == "reads":
            first = disk.looks + life.at
            disk.fail_look_at = dict.fromkeys(range(first, first + rng.choice([1, 1, 3])), EIO)
        elif life.fault != "none":
            error, what = {
                "for ever": (EIO, {"write", "sync", "truncate", "sync_directory"}),
                "full": (ENOSPC, {"write", "create", "make_directory", "rename"}),
                "read only": (
                    EROFS,
                    {"write", "create", "make_directory", "rename", "unlink", "truncate"},
                ),
            }[life.fault]
            disk.fail_when = lambda call: error if disk.operations >= at and call in what else None

    def _go_on(self) -> None:
        """What the disk has now, the next life begins with: it is checked, and so promised."""
        self._machine = "m"
        db = self._open(self._disk)
        found = self._promises.check(db)
        self._promises.settle(found)
        self._promises.settle_rows(db)
        if self._rng.random() < 0.5:
            db.close()
        self._disk.kill()

    # -- crash points

    def _moment(self) -> None:
        self._disk.now_s += 0.01
        if self._rng.random() < 0.002:
            self._disk.now_s += self._rng.choice([-1e8, -1e4, 1e4, 1e8])  # a clock that jumps
        if self._rng.random() < self._density:
            self._try_states(self._disk)

    def _try_states(self, disk: FaultyDisk) -> None:
        self._try(disk, "least")
        if not disk.unsettled:
            return  # all states are the same
        self._try(disk, "most")
        for _ in range(self._states):
            self._try(disk, "some")

    def _try(self, disk: FaultyDisk, kept: Kept) -> None:
        rng = self._rng
        self.tried += 1
        after = disk.survivor(rng, kept)
        while rng.random() < 0.3:
            after = self._cut_opening(after)
        db = self._open(after)
        found = self._promises.check(db)
        if rng.random() < 0.1:
            self._try_more(after, db, found)

    def _cut_opening(self, disk: FaultyDisk) -> FaultyDisk:
        """The power goes again before the opening is done, or an error comes and then the power goes."""
        rng = self._rng
        if rng.random() < 0.3:
            disk.fail_at[rng.randint(1, 15)] = rng.choice([EIO, ENOSPC])
        disk.cut_at = rng.randint(1, 25)
        with suppress(PowerCut, StoreError, OSError):
            db = self._open(disk)
            db.flush()
            db.close()
        return disk.survivor(rng)

    def _try_more(self, disk: FaultyDisk, db: BufferDB, found: dict[str, dict[int, bytes]]) -> None:
        """Go on a little from a crash point, and crash again."""
        rng = self._rng
        promises = self._promises.copy()
        promises.tell(["ended"])
        promises.settle(found)
        promises.settle_rows(db)
        disk.kill()
        disk.cut_at = disk.operations + rng.randint(10, 60)
        with suppress(PowerCut):
            Workload(promises, lambda: self._open(disk)).run(random_steps(rng, 6))
        after = disk.survivor(rng)
        promises.check(self._open(after))
