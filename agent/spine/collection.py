"""The collection manager: keeps every source connected, for ever, and hands on what it delivers.

A collection task connects, takes samples, gives each to the sink, and when anything fails it says so once,
waits (jittered back-off) and begins anew, until it is stopped. A source that fails harms no other source.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, replace

from agent.spine.backoff import LOCAL, Backoff, BackoffPolicy
from agent.spine.collection_loop import (
    CLOSE_TIMEOUT_S,
    SILENT,
    CollectedSource,
    CollectionLoop,
    Sink,
    Sleep,
    SourceLink,
)
from agent.spine.errors import COLLECTION, CONFIGURATION
from agent.spine.hearing import Hearing
from agent.spine.spine import Spine
from collectors.enums import CollectionStatus
from collectors.interfaces import ICollectionManager, IDataSource, Listening
from collectors.models import CollectedData, CollectionStatistics, CollectionTask
from collectors.registration import check_source

_STOP_TIMEOUT_S = 3 * CLOSE_TIMEOUT_S
_ENDED_TASKS_MAX = 1000


async def discard(_data: CollectedData) -> None:
    """A sink for managers that only watch."""


_WATCH_S = 1.0
"""How often silence is looked for."""
_TOLD_MAX = 10
"""Silent sensors that are told one by one at a look; the others are counted."""


class SensorSilentError(Exception):
    """Nothing comes though the link is up."""


def _normal_silence_s(entry: CollectedSource) -> float | None:
    """How long a source may say nothing: as configured, else as it has learned."""
    if entry.registration.silent_after_s is not None:
        return entry.registration.silent_after_s
    return entry.source.usual_silence_s() if isinstance(entry.source, Listening) else None


def _told(seconds: float) -> str:
    """`90 s`, `15 min`, `3 h`."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"


def _capped(policy: BackoffPolicy, cap_s: float | None) -> BackoffPolicy:
    """The policy with no longer waits than that."""
    if cap_s is None or cap_s >= policy.cap_s:
        return policy
    return replace(policy, cap_s=cap_s, base_s=min(policy.base_s, cap_s), first_s=min(policy.first_s, cap_s))


@dataclass(slots=True)
class _Run:
    """A collection task and what runs it, until it has ended."""

    task: CollectionTask
    entry: CollectedSource
    running: asyncio.Task[None] | None


class CollectionManager(ICollectionManager):
    """The collection manager of the running program.

    Args:
        spine: Events, errors, tasks, time.
        sink: Takes every sample; what it raises is reported, and the next sample follows. A sample that wants
            an acknowledgement comes again: its source is connected anew.
        backoff: How to wait before a source is tried again.
        sleep: Waits that many seconds; tests replace it.
    """

    def __init__(
        self,
        spine: Spine,
        *,
        sink: Sink = discard,
        backoff: BackoffPolicy = LOCAL,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._spine = spine
        self._sink = sink
        self._policy = backoff
        self._sleep = sleep
        self._entries: dict[str, CollectedSource] = {}
        self._current: dict[str, _Run] = {}
        self._runs: OrderedDict[str, _Run] = OrderedDict()

    async def register_source(self, source: IDataSource, config: dict[str, object]) -> str:
        """Register a source; returns its id. `config` is a `SourceRegistration`.

        Raises:
            ValueError: The configuration is invalid, or the id is taken; nothing is registered.
        """
        try:
            source_id, registration = check_source(source, config, self._entries)
        except ValueError as error:
            await self._spine.errors.report(error, layer=CONFIGURATION, operation="register_source")
            raise
        self._entries[source_id] = CollectedSource(
            source=source,
            registration=registration,
            link=SourceLink(source_id, "stopped", self._spine.clock.now()),
            backoff=Backoff(_capped(self._policy, registration.retry_cap_s), self._spine.rng),
        )
        return source_id

    async def unregister_source(self, source_id: str) -> None:
        """Stop the source's collection, if any, and forget the source.

        Raises:
            KeyError: There is no such source.
        """
        self._entry(source_id)
        if (run := self._current.get(source_id)) is not None:
            await self.stop_collection(run.task.task_id)
        self._entries.pop(source_id, None)

    async def start_collection(self, source_id: str) -> str:
        """Start collecting in the background; returns a task id that the task tracker knows.

        Raises:
            KeyError: There is no such source.
            RuntimeError: It is already being collected, or the program is ending.
        """
        entry = self._entry(source_id)
        if source_id in self._current:
            raise RuntimeError(f"source {source_id!r} is already being collected")
        loop = CollectionLoop(self._spine, self._sink, self._sleep, entry)
        task_id, running = self._spine.start(COLLECTION, loop.run(), layer=COLLECTION, subject=source_id)
        loop.task_id = task_id
        now = self._spine.clock.now()
        entry.link.change("connecting", now)
        task = CollectionTask(
            task_id=task_id,
            source_id=source_id,
            status=CollectionStatus.RUNNING,
            created_at=now,
            started_at=now,
        )
        run = self._current[source_id] = self._runs[task_id] = _Run(task, entry, running)
        running.add_done_callback(lambda _: self._ended(run))
        self._forget_ended()
        return task_id

    async def stop_collection(self, task_id: str) -> None:
        """Stop a collection task and wait for its end. Stopping a stopped one is harmless.

        Raises:
            KeyError: There is no such task.
        """
        run = self._run(task_id)
        running = run.running
        if running is None:
            return
        running.cancel()
        await asyncio.wait({running}, timeout=_STOP_TIMEOUT_S)
        if not running.done():
            await self._spine.errors.report(
                TimeoutError(f"collection did not stop within {_STOP_TIMEOUT_S:.0f} s"),
                layer=COLLECTION,
                operation="stop_collection",
                source_id=run.task.source_id,
            )

    async def get_task_status(self, task_id: str) -> CollectionStatus:
        """What a collection task is doing.

        Raises:
            KeyError: There is no such task.
        """
        return (await self.get_task(task_id)).status

    async def get_task(self, task_id: str) -> CollectionTask:
        """All about a collection task.

        Raises:
            KeyError: There is no such task.
        """
        run = self._run(task_id)
        task = run.task.model_copy()
        if run.running is not None:
            failing = run.entry.link.state == "failing"
            task.status = CollectionStatus.ERROR if failing else CollectionStatus.RUNNING
        return task

    async def get_statistics(self, source_id: str) -> CollectionStatistics:
        """What was collected from a source.

        Raises:
            KeyError: There is no such source.
        """
        entry = self._entry(source_id)
        return CollectionStatistics(
            success_count=entry.successes,
            failure_count=entry.link.failures,
            average_processing_time=entry.processing_s / entry.successes if entry.successes else 0.0,
            last_collection_time=entry.last_collection,
        )

    async def watch(self) -> None:
        """Look for silence, until cancelled: sources and sensors that say nothing though their link is up."""
        while True:
            await self._sleep(_WATCH_S)
            for entry in list(self._entries.values()):
                await self.look_for_silence(entry.link.source_id)

    async def look_for_silence(self, source_id: str) -> None:
        """Look at one source, and report what has fallen silent since the last look.

        Raises:
            KeyError: There is no such source.
        """
        entry = self._entry(source_id)
        normal_s = _normal_silence_s(entry)
        if normal_s is None:
            return
        source_fell, sensors = entry.hearing.look(self._spine.clock.monotonic_s(), normal_s)
        if source_fell:
            why = entry.source.explain_silence() if isinstance(entry.source, Listening) else ""
            await self._report_silence(
                source_id, f"silent: nothing came for {_told(normal_s)}, though the link is up", why
            )
        for sensor in sensors[:_TOLD_MAX]:
            await self._report_silence(
                source_id, f"{sensor} is silent: nothing came for {_told(normal_s)}", ""
            )
        if len(sensors) > _TOLD_MAX:
            await self._report_silence(
                source_id, f"{len(sensors) - _TOLD_MAX} further sensors are silent", ""
            )

    async def _report_silence(self, source_id: str, message: str, why: str) -> None:
        await self._spine.errors.report(
            SensorSilentError(f"{message}: {why}" if why else message),
            layer=COLLECTION,
            operation="listen",
            source_id=source_id,
            condition=SILENT,
        )

    def hearing(self, source_id: str) -> Hearing:
        """What is heard of a source.

        Raises:
            KeyError: There is no such source.
        """
        return self._entry(source_id).hearing

    def link(self, source_id: str) -> SourceLink:
        """How a source is doing.

        Raises:
            KeyError: There is no such source.
        """
        return replace(self._entry(source_id).link)

    async def close(self) -> None:
        """Stop every collection."""
        runs = list(self._current.values())
        for run in runs:  # all at once: each may take its time to disconnect
            if run.running is not None:
                run.running.cancel()
        for run in runs:
            await self.stop_collection(run.task.task_id)

    def _entry(self, source_id: str) -> CollectedSource:
        try:
            return self._entries[source_id]
        except KeyError:
            raise KeyError(f"no source {source_id!r}") from None

    def _run(self, task_id: str) -> _Run:
        try:
            return self._runs[task_id]
        except KeyError:
            raise KeyError(f"no collection task {task_id!r}") from None

    def _ended(self, run: _Run) -> None:
        now = self._spine.clock.now()
        run.running = None
        run.task.status = CollectionStatus.STOPPED
        run.task.stopped_at = now
        run.entry.link.change("stopped", now)
        del self._current[run.task.source_id]

    def _forget_ended(self) -> None:
        """Keep the memory of ended tasks bounded; a task that runs is never forgotten."""
        if len(self._runs) <= _ENDED_TASKS_MAX + len(self._current):
            return
        oldest = next(task_id for task_id, run in self._runs.items() if run.running is None)
        del self._runs[oldest]
