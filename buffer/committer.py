"""The committer: the one thread that flushes, so that no event loop ever waits for a disk.

What nobody waits for is committed once a window. As soon as somebody waits, a commit begins early:
after a short gathering, so that those who come together share one fsync.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

GATHER_IDLE_S: Final = 0.005
"""Gathering ends when nothing new came for so long."""
GATHER_MAX_S: Final = 0.020
_MAINTENANCE_S: Final = 10.0
_RETRY_FIRST_S: Final = 0.1
_RETRY_MAX_S: Final = 5.0
_EARLY_BYTES: Final = 256 << 10
"""So much waiting is committed before the window ends."""


class Committable(Protocol):
    """What the committer works for."""

    def commit(self) -> None:
        """Commit all that waits; DiskFault when the disk refuses."""
        ...

    def maintain(self) -> None:
        """Do what needs doing now and then; DiskFault when the disk refuses."""
        ...


class Committer:
    """Runs the thread `outstation-commit`."""

    def __init__(
        self, store: Committable, *, window_s: float, report: Callable[[Exception | None], None]
    ) -> None:
        """Make it, without starting it.

        Args:
            store: What is committed.
            window_s: Records wait at most so long when nobody asks for them; 0 commits at once.
            report: Called after each turn with what went wrong, None when nothing, on the thread.
        """
        self._store = store
        self._window_s = window_s
        self._report = report
        self._condition = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="outstation-commit", daemon=True)
        self._waiting_since: float | None = None
        self._last_arrival = 0.0
        self._bytes = 0
        self._urgent_since: float | None = None
        self._waiters = 0
        self._waiters_before = 0
        self._committed = False
        """The last turn committed something."""
        self._wakes_at = 0.0
        """Until when the thread sleeps; 0 while it does not, and so will look for itself."""
        self._stop = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; what waits is not committed by it any more."""
        with self._condition:
            self._stop = True
            self._condition.notify()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def change(self, window_s: float) -> None:
        """Let records wait for so long from now on, also those that wait already."""
        with self._condition:
            self._window_s = window_s
            self._condition.notify()

    def arrived(self, size: int) -> None:
        """Records were appended."""
        self._bytes += size
        armed = self._waiting_since is not None and self._bytes < _EARLY_BYTES
        if armed and self._urgent_since is None:
            return  # the usual case: who hurries from now on came later than these
        now = self._last_arrival = time.monotonic()
        if not armed:
            with self._condition:
                if self._waiting_since is None:
                    self._waiting_since = now
                self._wake(now)

    def hurry(self, waiters: int = 1) -> None:
        """Somebody waits."""
        with self._condition:
            now = time.monotonic()
            self._waiters += waiters
            if self._urgent_since is None:
                self._urgent_since = now
            self._wake(now)

    def _wake(self, now: float) -> None:
        """Wake the thread when it would sleep too long; not otherwise, since that costs whoever appends."""
        if self._due(now) < self._wakes_at:
            self._wakes_at = 0.0
            self._condition.notify()

    def busy(self) -> bool:
        """Whether a commit is due: what is done meanwhile on the thread that commits can wait."""
        with self._condition:
            return self._stop or self._due(time.monotonic()) <= time.monotonic()

    def relax(self) -> None:
        """Somebody committed by himself all that waited.

        What comes next then waits for less than a window; that is cheaper than waking the thread for it.
        """
        self._bytes = 0

    def _run(self) -> None:
        retry_s = 0.0
        next_maintenance = time.monotonic() + _MAINTENANCE_S
        while True:
            if not self._wait(retry_s, next_maintenance):
                return
            try:
                self._store.commit()
                retry_s = 0.0
                if time.monotonic() >= next_maintenance:
                    next_maintenance = time.monotonic() + _MAINTENANCE_S
                    self._store.maintain()
                self._report(None)
            except Exception as error:  # noqa: BLE001 (reported below)
                # A disk that refuses, or a defect: reported, and tried again, since a thread that
                # ended would leave readings in memory for ever.
                retry_s = min(_RETRY_MAX_S, max(_RETRY_FIRST_S, retry_s * 2))
                self._rearm()
                self._report(error)

    def _rearm(self) -> None:
        """What was to be committed still waits."""
        with self._condition:
            self._waiting_since = time.monotonic() - self._window_s

    def _wait(self, retry_s: float, until: float) -> bool:
        """Wait until there is something to do. False when the thread is to end."""
        with self._condition:
            if retry_s:
                self._condition.wait_for(lambda: self._stop, retry_s)
            # After a commit the next is likely: the first that arrives need not wake this thread then.
            look_at = time.monotonic() + self._window_s if self._committed else 0.0
            while not self._stop:
                now = time.monotonic()
                due = min(self._due(now), until)
                if due <= now:
                    break
                self._wakes_at = min(due, look_at) if now < look_at else due
                self._condition.wait(self._wakes_at - now)
                self._wakes_at = 0.0
            self._committed = self._waiting_since is not None
            self._waiting_since = self._urgent_since = None
            self._bytes = 0
            self._waiters_before, self._waiters = self._waiters, 0
            return not self._stop

    def _due(self, now: float) -> float:
        """When the next commit is due."""
        due = float("inf")
        if self._waiting_since is not None:
            due = self._waiting_since + self._window_s
            if self._bytes >= _EARLY_BYTES:
                due = now
        if self._urgent_since is not None:
            # As many as the last commit served wait again: nobody else is to be expected.
            if self._waiters >= self._waiters_before > 1:
                return now
            quiet = max(self._last_arrival, self._urgent_since) + GATHER_IDLE_S
            due = min(due, self._urgent_since + GATHER_MAX_S, quiet)
        return due
