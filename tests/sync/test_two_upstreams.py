"""Two upstreams of one device to one other end, whose routes overlap: their packs have the same bounds, and other readings."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import nats
import pytest
from aiohttp import web
from pydantic_core import to_json

from agent.receiver.service import serve
from agent.spine.spine import open_spine
from agent.sync import registry
from agent.sync.acknowledgement import ack_topic
from agent.sync.awaiting import AwaitedPacks
from agent.sync.packing import Packer
from agent.sync.subjects import BATCH_FILTER, STREAM, ack_subject
from agent.sync.upstream import Rejected
from collectors.clock import SystemClock
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs.cloud import rows
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.nats import NatsServers
from tests.rigs.no_timing import AsMeasured
from tests.rigs.programs import until
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters, MemoryRecord, reading

if TYPE_CHECKING:
    from pathlib import Path

    from agent.sync.upstream import Pack, Upstream

DEVICE, STORE = "greenhouse-3", "5a" * 16


def packs() -> tuple[Pack, Pack]:
    """First, last and count are the same."""
    return tuple(
        Packer(48 * 1024).pack(DEVICE, STORE, [MemoryRecord(n, reading("s", n)) for n in (1, own, 4)])
        for own in (2, 3)
    )  # type: ignore[return-value]


async def made(url: str, **options: Any) -> Upstream:
    driver = registry.driver_for(url)
    assert driver is not None
    model = registry.load_options_class(driver).model_validate({"url": url, **options})
    upstream = registry.create_upstream(model, DEVICE, SystemClock())
    await upstream.connect()
    return upstream


async def only_what_is_named(first: Upstream, second: Upstream, say: Any, heard: Any) -> None:
    """The other end has both, and has committed one of them."""
    one, other = packs()
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        watching = [group.create_task(each.lost()) for each in (first, second)]
        sending = [group.create_task(first.send(one)), group.create_task(second.send(other))]
        await heard(2)
        await say(to_json({"acked": [one.digest]}))
        await sending[0]
        await asyncio.sleep(0.05)
        assert not sending[1].done(), "nobody has committed that one"
        await say(to_json({"acked": [other.digest]}))
        await sending[1]
        for task in watching:
            task.cancel()
        await first.disconnect()
        await second.disconnect()


async def test_over_mqtt_the_acknowledgement_of_one_is_not_the_others() -> None:
    with Mosquitto() as broker:
        async with MqttConnection(options_from_url(broker.url)) as end:
            await end.subscribe("outstation/+/readings")

            async def heard(count: int) -> None:
                for _ in range(count):
                    await end.receive()

            first, second = [await made(broker.url, client_id=name) for name in ("a", "b")]
            await only_what_is_named(first, second, lambda said: end.publish(ack_topic(DEVICE), said), heard)


async def test_over_nats_the_acknowledgement_of_one_is_not_the_others() -> None:
    with NatsServers() as server:
        client = await nats.connect(server.url)
        jetstream = client.jetstream()
        await jetstream.add_stream(name=STREAM, subjects=[BATCH_FILTER])

        async def heard(count: int) -> None:
            while (await jetstream.stream_info(STREAM)).state.messages < count:
                await asyncio.sleep(0.01)

        first, second = [await made(server.url) for _ in range(2)]
        await only_what_is_named(first, second, lambda said: client.publish(ack_subject(DEVICE), said), heard)
        await client.close()


async def test_over_http_an_end_that_tells_repetitions_by_their_key_takes_both() -> None:
    kept: dict[str, bytes] = {}

    async def handle(request: web.Request) -> web.Response:
        kept.setdefault(request.headers["Idempotency-Key"], await request.read())
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/", handle)
    runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    upstream = await made(f"http://127.0.0.1:{runner.addresses[0][1]}/")
    for pack in (*packs(), *packs()):
        await upstream.send(pack)
    await upstream.disconnect()
    await runner.cleanup()
    assert list(kept.values()) == [pack.payload for pack in packs()]


async def test_the_same_pack_on_its_way_twice_is_acknowledged_twice() -> None:
    """After a crash it may be: from the buffer, and as a dead letter that is sent again."""
    packs_, waiting = AwaitedPacks("x"), []
    one, other = packs()
    with packs_.awaited(one) as first, packs_.awaited(other) as third:
        with packs_.awaited(one) as second:
            waiting = [first, second]
            packs_.heard(to_json({"acked": [one.digest]}))
            assert [each.result() for each in waiting] == [None, None]
        with packs_.awaited(one) as second:
            packs_.heard(to_json({"acked": [one.digest], "rejected": [[other.digest, "why"]]}))
            assert second.result() is None
        with pytest.raises(Rejected, match="why"):
            await third


ROUTES = {"north": ["both", "north"], "south": ["both", "south"]}
BATCH = 4
ALIKE, SAME = ["both", "north", "south", "both"] * 25, ["both"] * 100
"""What makes packs of the same bounds, and what makes the same packs."""


@pytest.mark.parametrize("ack", ["broker", "receiver"])
@pytest.mark.parametrize("server", [Mosquitto, NatsServers])
async def test_all_that_either_wants_is_in_the_database(tmp_path: Path, server: Any, ack: str) -> None:
    path, ready = tmp_path / "r.db", asyncio.Event()
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(server())
        group = await stack.enter_async_context(asyncio.TaskGroup())
        receiving = group.create_task(
            serve([broker.url], f"sqlite:///{path}", on_ready=lambda _: ready.set())
        )
        stack.callback(receiving.cancel)
        await ready.wait()
        spine = await stack.enter_async_context(open_spine(rng=random.Random(1)))
        consumers = []
        for name, sources in ROUTES.items():
            consumer = MemoryConsumer(DEVICE, STORE)
            for source in ALIKE + SAME:
                consumer.add_readings(1, source)
            options = registry.load_options_class(registry.driver_for(broker.url) or "").model_validate(
                {"url": broker.url, "ack": ack, "sources": sources, "batch_readings": BATCH, "linger": 0}
            )
            sender = registry.create_sender(
                name, options, DEVICE, consumer, MemoryDeadLetters(), spine, AsMeasured()
            )
            spine.start("sync", sender.run(), layer="sync", subject=name)
            consumers.append(consumer)
        await until(lambda: not any(consumer.backlog for consumer in consumers), "all is acknowledged")
        await until(lambda: len(rows(path)) >= 200, "all has come")
        receiving.cancel()
    assert sorted(row.seq for row in rows(path)) == list(range(1, 201))
