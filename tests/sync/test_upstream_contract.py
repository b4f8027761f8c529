"""What the sender relies on, of every upstream alike: on real servers, over a link that is cut and stalls."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nats
import pytest
from aiohttp import web

from agent.sync import registry
from agent.sync.packing import Packer
from agent.sync.subjects import BATCH_FILTER, LEDGER_FILTER, STREAM
from agent.sync.upstream import LinkLost, Paused, RetryLater, UpstreamError
from collectors.clock import SystemClock
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.nats import NatsServers
from tests.rigs.proxy import ChaosProxy
from tests.sync.memory_buffer import MemoryRecord, reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.sync.upstream import Pack, Upstream

USER, PASSWORD, WRONG = "me", "sesame", "open-barley"
DRIVERS = sorted(registry.UPSTREAMS)
DURATION_S = "500 ms"


def pack(first: int = 1, count: int = 20) -> Pack:
    records = [MemoryRecord(n, reading("soil", n)) for n in range(first, first + count)]
    return Packer(48 * 1024).pack("greenhouse-3", "5a" * 16, records)


@dataclass
class End:
    """One other end, and the link to it."""

    driver: str
    proxy: ChaosProxy
    folder: Path
    got: list[bytes] = field(default_factory=list)
    path: str = ""

    def upstream(self, password: str = PASSWORD, **options: Any) -> Upstream:
        secret = self.folder / "secret"
        secret.write_text(password)
        scheme = {"mqtt": "mqtt", "http": "http", "nats": "nats"}[self.driver]
        written: dict[str, Any] = {
            "url": f"{scheme}://127.0.0.1:{self.proxy.port}{self.path}",
            "username": USER,
            "password": {"file": str(secret)},
        }
        if self.driver == "http":
            written["timeout"] = DURATION_S
        else:
            written |= {"ack": "broker", "ack_timeout": DURATION_S}
        made = registry.load_options_class(self.driver).model_validate({**written, **options})
        return registry.create_upstream(made, "greenhouse-3", SystemClock())

    async def until_got(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.got) < count:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def mqtt_end(folder: Path) -> AsyncIterator[End]:
    with Mosquitto(BrokerSettings(users={USER: PASSWORD})) as broker:
        here = options_from_url(broker.url, username=USER, password=PASSWORD)
        async with ChaosProxy(("127.0.0.1", broker.port)) as proxy, MqttConnection(here) as connection:
            end = End("mqtt", proxy, folder)
            await connection.subscribe("outstation/+/readings")

            async def listen() -> None:
                async for message in connection.messages():
                    end.got.append(message.payload)
                    connection.acknowledge(message)

            listening = asyncio.create_task(listen())
            yield end
            listening.cancel()


@asynccontextmanager
async def http_end(folder: Path) -> AsyncIterator[End]:
    async def handle(request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers["Authorization"] != f"Basic {b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}":
            return web.Response(status=401)
        end.got.append(body)
        return web.Response(status=204)

    app = web.Application()
    app.router.add_post("/readings", handle)
    runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ChaosProxy(("127.0.0.1", runner.addresses[0][1])) as proxy:
            end = End("http", proxy, folder, path="/readings")
            yield end
    finally:
        await runner.cleanup()


@asynccontextmanager
async def nats_end(folder: Path) -> AsyncIterator[End]:
    with NatsServers(options=f"authorization {{ user: {USER}, password: {PASSWORD} }}") as server:
        client = await nats.connect(server.url, user=USER, password=PASSWORD)
        try:
            await client.jetstream().add_stream(name=STREAM, subjects=[BATCH_FILTER, LEDGER_FILTER])
            async with ChaosProxy(("127.0.0.1", server.nodes[0].client_port)) as proxy:
                end = End("nats", proxy, folder)

                async def heard(message: Any) -> None:
                    end.got.append(message.data)

                await client.subscribe(BATCH_FILTER, cb=heard)
                await client.flush()
                yield end
        finally:
            await client.close()


ENDS = {"mqtt": mqtt_end, "http": http_end, "nats": nats_end}


@asynccontextmanager
async def connected(upstream: Upstream) -> AsyncIterator[asyncio.Task[None]]:
    """The task that waits for the connection's end."""
    await upstream.connect()
    lost = asyncio.create_task(upstream.lost())
    try:
        yield lost
    finally:
        await upstream.disconnect()
        lost.cancel()
        await asyncio.wait([lost])


@pytest.mark.parametrize("driver", DRIVERS)
async def test_what_is_sent_arrives_as_it_is_and_in_order(driver: str, tmp_path: Path) -> None:
    async with ENDS[driver](tmp_path) as end:
        upstream = end.upstream()
        async with connected(upstream) as lost:
            packs = [pack(n * 20 + 1) for n in range(min(30, 2 * upstream.max_in_flight))]
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                for each in packs:
                    group.create_task(upstream.send(each))
            assert upstream.max_in_flight >= 1
            assert not lost.done()
            await end.until_got(len(packs))
            assert end.got == [each.payload for each in packs]


@pytest.mark.parametrize("driver", DRIVERS)
async def test_without_a_connection_nothing_hangs_and_nothing_breaks(driver: str, tmp_path: Path) -> None:
    async with ENDS[driver](tmp_path) as end:
        upstream = end.upstream()
        await upstream.disconnect()
        with pytest.raises(LinkLost):
            await upstream.send(pack())
        end.proxy.refuse = True
        if upstream.lasting:
            with pytest.raises(RetryLater):
                await upstream.connect()
        else:
            await upstream.connect()  # only knows that somebody listens
            with pytest.raises(RetryLater):
                await upstream.send(pack())
        end.proxy.refuse = False
        async with connected(upstream):
            await upstream.send(pack())
        with pytest.raises(LinkLost):
            await upstream.send(pack())
        await upstream.disconnect()
        await end.until_got(1)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("trouble", ["reset", "stall"])
async def test_a_link_that_breaks_fails_what_is_under_way_and_it_can_be_sent_again(
    driver: str, trouble: str, tmp_path: Path
) -> None:
    async with ENDS[driver](tmp_path) as end:
        upstream = end.upstream()
        async with connected(upstream) as lost:
            await upstream.send(pack())
            end.proxy.blackhole("down")
            sending = [
                asyncio.create_task(upstream.send(pack(21 + 20 * n))) for n in range(upstream.max_in_flight)
            ]
            await end.until_got(2)
            if trouble == "reset":
                end.proxy.reset_all()
            async with asyncio.timeout(10):
                failures = await asyncio.gather(*sending, return_exceptions=True)
            assert all(isinstance(failure, RetryLater) for failure in failures), failures
            if upstream.lasting and trouble == "reset":
                async with asyncio.timeout(5):
                    await lost
            end.proxy.reset_all()
            end.proxy.heal()
        async with connected(upstream):
            await upstream.send(pack(21))


@pytest.mark.parametrize("driver", DRIVERS)
async def test_wrong_credentials_pause_and_are_shown_nowhere(
    driver: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    async with ENDS[driver](tmp_path) as end:
        upstream = end.upstream(WRONG)
        with pytest.raises(Paused) as refused:
            async with connected(upstream):
                await upstream.send(pack())
        assert WRONG not in f"{refused.value!r} {refused.value} {upstream.name} {upstream!r} {caplog.text}"
        assert not end.got
        (tmp_path / "secret").unlink()
        with pytest.raises(Paused, match="credentials cannot be read"):
            await upstream.connect()


@pytest.mark.parametrize("driver", DRIVERS)
async def test_a_cancelled_send_leaves_the_connection_usable(driver: str, tmp_path: Path) -> None:
    async with ENDS[driver](tmp_path) as end:
        upstream = end.upstream(**({"timeout": "20 s"} if driver == "http" else {"ack_timeout": "20 s"}))
        async with connected(upstream):
            end.proxy.blackhole()
            sending = asyncio.create_task(upstream.send(pack()))
            await asyncio.sleep(0.02)
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            end.proxy.heal()
            async with asyncio.timeout(10):
                await upstream.send(pack(21))
            assert pack(21).payload in end.got or not await end.until_got(1)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_nobody_there_is_a_reason_to_come_back(driver: str, tmp_path: Path) -> None:
    async with ENDS[driver](tmp_path) as end:
        upstream = end.upstream()
        await end.proxy.stop()
        with pytest.raises(UpstreamError) as away:
            await upstream.connect()
        assert isinstance(away.value, RetryLater)
        assert "127.0.0.1" in str(away.value)
