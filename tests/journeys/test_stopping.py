"""SIGTERM commits what has come in and ends within five seconds, whatever hangs on the other side."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.rigs import cloud, stored
from tests.rigs.configuration import device, mqtt_source, serial_source, upstream
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.mqtt_sensors import MqttSensor, speaking
from tests.rigs.programs import AgentProgram, free_port, receiver_program, until
from tests.rigs.proxy import ChaosProxy
from tests.rigs.pty import PtySensor
from tests.rigs.serial_sensors import SerialCounter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from agent.status.report import StatusReport

STOP_S = 5.0
SERIAL_HZ, MQTT_HZ = 100.0, 100.0
ON_ITS_WAY_S = 0.3
"""A line that was written shortly before SIGTERM may still be in the terminal."""


@dataclass
class Other:
    """The other side: how the agent reaches it, and how it is made to hang."""

    url: str
    hang: Callable[[], Awaitable[object]]
    ready: Callable[[StatusReport], object] = lambda report: report.upstreams[0].delivered
    """When it may be made to hang."""


async def _nothing() -> None:
    """It hangs from the beginning."""


@asynccontextmanager
async def refusing(_folder: Path) -> AsyncIterator[Other]:
    yield Other(
        f"http://127.0.0.1:{free_port()}/readings",
        _nothing,
        lambda report: report.upstreams[0].last_error,
    )


@asynccontextmanager
async def silent_http(_folder: Path) -> AsyncIterator[Other]:
    """A server that takes the request and never answers."""
    asked = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(65536):
            asked.set()
        writer.close()

    async with await asyncio.start_server(listen, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield Other(f"http://127.0.0.1:{port}/readings", asked.wait, lambda _: True)


@asynccontextmanager
async def silent_broker(_folder: Path) -> AsyncIterator[Other]:
    """The connection is accepted, CONNACK never comes."""
    with Mosquitto() as broker:
        async with ChaosProxy(("127.0.0.1", broker.port)) as proxy:
            proxy.blackhole()
            yield Other(f"mqtt://127.0.0.1:{proxy.port}", _nothing, lambda _: True)


@asynccontextmanager
async def half_open(folder: Path) -> AsyncIterator[Other]:
    """A link that worked and passes nothing any more, with its connections open."""

    async def hang() -> None:
        proxy.blackhole()

    with Mosquitto() as broker, receiver_program(folder, broker.url) as receiver:
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        async with ChaosProxy(("127.0.0.1", broker.port)) as proxy:
            yield Other(f"mqtt://127.0.0.1:{proxy.port}", hang)


@asynccontextmanager
async def hung_receiver(folder: Path) -> AsyncIterator[Other]:
    """The broker takes everything; the receiver behind it is stopped, and acknowledges nothing."""

    async def hang() -> None:
        receiver.signal(signal.SIGSTOP)

    with Mosquitto() as broker, receiver_program(folder, broker.url) as receiver:
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        yield Other(broker.url, hang)


@pytest.mark.parametrize("other_side", [refusing, silent_http, silent_broker, half_open, hung_receiver])
async def test_sigterm_commits_and_ends_in_time_whatever_hangs(tmp_path: Path, other_side):
    async with AsyncExitStack() as stack:
        other = await stack.enter_async_context(other_side(tmp_path))
        source_broker = stack.enter_context(Mosquitto())
        port = await stack.enter_async_context(PtySensor(tmp_path))
        config = device(serial_source(port.port), mqtt_source(source_broker.url), upstream(other.url))
        agent = stack.enter_context(AgentProgram(tmp_path, config))
        agent.start()
        await agent.until(lambda r: all(s.state == "connected" for s in r.sources), "the sources")
        serial, sensor = SerialCounter(port, SERIAL_HZ), MqttSensor("a", source_broker.port, MQTT_HZ)
        async with asyncio.TaskGroup() as group, speaking([sensor]):
            counting = group.create_task(serial.speak())
            await agent.until(
                lambda r: r.buffer.stored > 50 and other.ready(r), "readings and the other side"
            )
            await other.hang()
            await asyncio.sleep(0.5)
            told_at = time.time()
            status, took_s = await agent.stop()
            counting.cancel()
        print(f"{other_side.__name__}: stopped within {took_s:.2f} s")  # noqa: T201 (a figure, shown by -s)
        assert status == 0, agent.log
        assert took_s < STOP_S, agent.log
        assert "stopped; " in agent.log
        assert "Traceback" not in agent.log
        kept = stored.documents(agent.buffer).values()
        lines = {document["values"]["n"] for document in kept if document["source"] == "boiler"}
        assert set(range(sum(at < told_at - ON_ITS_WAY_S for at in serial.written_at))) <= lines

        agent.start()  # what came too late for the commit was not acknowledged, and comes again
        await agent.until(lambda r: r.sources[1].state == "connected", "the session")

        def messages() -> list[int]:
            return [
                d["values"]["n"] for d in stored.documents(agent.buffer).values() if d["source"] == "hall"
            ]

        await agent.until(lambda r: r.buffer.stored >= len(lines) + sensor.published, "the rest")
        assert (await agent.stop())[0] == 0
        assert messages() == list(range(sensor.published))


async def test_sigterm_ends_in_time_when_a_source_is_half_open(tmp_path: Path):
    with Mosquitto() as broker:
        async with ChaosProxy(("127.0.0.1", broker.port)) as proxy, PtySensor(tmp_path) as port:
            config = device(
                serial_source(port.port),
                mqtt_source(f"mqtt://127.0.0.1:{proxy.port}"),
                upstream(f"http://127.0.0.1:{free_port()}/readings"),
            )
            with AgentProgram(tmp_path, config) as agent:
                agent.start()
                await agent.until(lambda r: all(s.state == "connected" for s in r.sources), "the sources")
                await port.write(b'{"n": 0}\n')
                await agent.until(lambda r: r.buffer.stored == 1, "a reading")
                proxy.blackhole()
                status, took_s = await agent.stop()
                assert status == 0, agent.log
                assert took_s < STOP_S
                assert len(stored.documents(agent.buffer)) == 1


async def test_what_can_be_delivered_is_delivered_before_the_end(tmp_path: Path):
    port = free_port()
    with receiver_program(tmp_path, f"http://127.0.0.1:{port}") as receiver:
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        with Mosquitto() as broker:
            async with PtySensor(tmp_path) as sensor:
                config = device(
                    serial_source(sensor.port),
                    mqtt_source(broker.url),
                    upstream(f"http://127.0.0.1:{port}/readings", linger="1 h"),
                )
                with AgentProgram(tmp_path, config) as agent:
                    agent.start()
                    await agent.until(lambda r: r.sources[0].state == "connected", "the port")
                    for number in range(100):
                        await sensor.write(b'{"n": %d}\n' % number)
                    await agent.until(lambda r: r.buffer.stored == 100, "the readings")
                    status, took_s = await agent.stop()
                    assert (status, took_s < STOP_S) == (0, True)
                    assert agent.log.rstrip().endswith("stopped; everything is delivered")
        arrived = cloud.rows(tmp_path / "cloud.sqlite")
        assert [row.document["values"]["n"] for row in arrived] == list(range(100))
