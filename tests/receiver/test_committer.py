"""Group commit, and what becomes of packs when a commit fails."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING

import pytest

from agent.receiver import committer as committer_module
from agent.receiver.committer import Committer, Inflow
from agent.receiver.packs import Refused
from agent.receiver.store import Stored, StoreError, StoreUnavailable, Unstorable
from agent.spine.backoff import BackoffPolicy
from collectors.clock import SystemClock
from tests.receiver.packs import received

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.receiver.packs import Received


class SlowStore:
    def __init__(self) -> None:
        self.groups: list[int] = []
        self.failures: list[OSError] = []
        self.go = asyncio.Event()
        self.sick: Received | None = None
        self.sickness = Unstorable("no such character")

    async def write(
        self, packs: Sequence[Received], refused: Sequence[Refused] = (), losses: object = ()
    ) -> Stored:
        await self.go.wait()
        if self.failures:
            raise self.failures.pop(0)
        if any(pack is self.sick for pack in packs):
            raise self.sickness
        self.groups.append(len(packs) + len(refused))
        return Stored(0, 0)


def committer_of(store: SlowStore) -> Committer:
    return Committer(store, SystemClock(), random.Random(1))  # type: ignore[arg-type]


async def test_what_arrives_during_a_commit_rides_the_next_and_a_failure_reaches_its_own_only() -> None:
    store = SlowStore()
    committer = committer_of(store)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(committer.run())
        first = await committer.submit(received())
        await asyncio.sleep(0)
        others = [await committer.submit(received()) for _ in range(30)]
        others.append(await committer.submit(Refused("t", b"", "why")))
        store.failures.append(StoreError("disk full"))
        assert not any(future.done() for future in (first, *others))
        store.go.set()
        with pytest.raises(StoreError, match="disk full"):
            await first
        await asyncio.gather(*others)
        assert committer.fault is None
        assert store.groups == [31]
        assert committer.meter.batches == {"stored": 30, "refused": 1, "failed": 1}
        run.cancel()


async def test_a_sick_pack_fails_alone() -> None:
    store = SlowStore()
    store.go.set()
    committer = committer_of(store)
    store.sick = received()
    async with asyncio.TaskGroup() as group:
        futures = [await committer.submit(pack) for pack in (received(), store.sick, received())]
        run = group.create_task(committer.run())
        await asyncio.gather(futures[0], futures[2])
        with pytest.raises(Unstorable, match="no such character"):
            await futures[1]
        assert store.groups == [1, 1]
        run.cancel()


async def test_what_came_behind_a_failure_over_the_same_connection_is_not_written_before_it_has_come_again() -> (
    None
):
    store = SlowStore()
    store.go.set()
    store.sick, store.sickness = received(), StoreError("for now")
    committer = committer_of(store)
    one, other = Inflow(committer), Inflow(committer)
    async with asyncio.TaskGroup() as group:
        futures = [
            await inflow.submit(pack)
            for inflow, pack in ((one, received()), (one, store.sick), (other, received()), (one, received()))
        ]
        run = group.create_task(committer.run())
        await asyncio.gather(futures[0], futures[2])
        late = await one.submit(received())
        for future, why in (
            (futures[1], "^for now"),
            (futures[3], "came before it"),
            (late, "came before it"),
        ):
            with pytest.raises(StoreError, match=why):
                await future
        again = Inflow(committer)
        await (await again.submit(received()))
        store.sickness = Unstorable("for good")
        refused, behind = await again.submit(store.sick), await again.submit(received())
        with pytest.raises(Unstorable):
            await refused
        await behind
        run.cancel()


async def test_a_database_that_is_away_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(committer_module, "RETRY", BackoffPolicy(first_s=0.01, base_s=0.01, cap_s=0.02))
    store = SlowStore()
    store.failures = [StoreUnavailable("connection refused") for _ in range(5)]
    committer = committer_of(store)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(committer.run())
        first = await committer.submit(received())
        store.go.set()
        await first
        assert not store.failures
        assert committer.fault is None
        assert committer.meter.database_up
        run.cancel()
    said = [record.message for record in caplog.records if record.name == "agent.receiver.committer"]
    assert said[0] == "receive: the database is away, and waited for: connection refused"
    assert len(said) <= 2


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(committer_module, "WAITING_MAX", 3)
    store = SlowStore()
    committer = committer_of(store)
    async with asyncio.TaskGroup() as group:
        run = group.create_task(committer.run())
        futures = [await committer.submit(received()) for _ in range(3)]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                futures += [await committer.submit(received()) for _ in range(4)]
        store.go.set()
        await asyncio.gather(*futures)
        run.cancel()


async def test_nobody_waits_for_ever_when_it_ends() -> None:
    committer = committer_of(SlowStore())
    async with asyncio.TaskGroup() as group:
        run = group.create_task(committer.run())
        future = await committer.submit(received())
        await asyncio.sleep(0)
        run.cancel()
    assert future.cancelled()
