"""nats-py may swallow a cancellation; whoever waits for it must stop none the less."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from nats.aio.client import Client
from nats.js.client import JetStreamContext

from agent.sync.config import NatsUpstreamOptions
from agent.sync.nats_client import heeding, undisturbed
from agent.sync.nats_upstream import NatsUpstream
from tests.rigs.nats import NatsServers
from tests.sync.test_upstream_contract import pack

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine


async def swallowing(*_: object, **__: object) -> str:
    """As `asyncio.wait_for` before Python 3.12, and nats-py while it flushes."""
    try:
        await asyncio.sleep(20)
    except asyncio.CancelledError:
        return "done"
    raise AssertionError("nobody cancelled it")


async def stopped(work: Coroutine[Any, Any, Any]) -> bool:
    """Whether a task that does this, and is told to stop, stops."""
    task = asyncio.create_task(work)
    await asyncio.sleep(0.02)
    assert not task.done()
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    return task.cancelled()


@pytest.mark.parametrize("guarded", [heeding, lambda work: undisturbed(work, 10)])
async def test_a_cancellation_takes_effect_behind_what_swallows_it(guarded: Callable[..., Any]) -> None:
    assert await stopped(guarded(swallowing()))


async def test_who_is_being_stopped_can_still_say_goodbye() -> None:
    said: list[str] = []

    async def quick() -> str:
        await asyncio.sleep(0)
        return "goodbye"

    async def worker() -> None:
        try:
            await asyncio.sleep(20)
        finally:
            said.append(await heeding(quick()))
            said.append(await undisturbed(quick(), 1))

    assert await stopped(worker())
    assert said == ["goodbye", "goodbye"]


async def test_what_is_not_done_in_time_is_given_up_and_a_failure_is_told() -> None:
    with pytest.raises(TimeoutError):
        await undisturbed(swallowing(), 0.01)

    async def failing() -> None:
        raise ConnectionResetError("gone")

    for guarded in (heeding(failing()), undisturbed(failing(), 1)):
        with pytest.raises(ConnectionResetError):
            await guarded


@pytest.mark.parametrize(
    ("owner", "call", "doing"),
    [
        (Client, "connect", "connect"),
        (Client, "subscribe", "connect"),
        (JetStreamContext, "publish", "send"),
        (Client, "close", "disconnect"),
    ],
)
async def test_the_upstream_stops_whatever_it_is_doing(
    monkeypatch: pytest.MonkeyPatch, owner: type, call: str, doing: str
) -> None:
    with NatsServers() as server:
        upstream = NatsUpstream(NatsUpstreamOptions(url=server.url), "greenhouse-3")
        if doing != "connect":
            await upstream.connect()
        with monkeypatch.context() as patched:
            patched.setattr(owner, call, swallowing)
            work: Any = {"connect": upstream.connect, "disconnect": upstream.disconnect}.get(doing)
            assert await stopped(upstream.send(pack()) if work is None else work())
        await upstream.disconnect()
