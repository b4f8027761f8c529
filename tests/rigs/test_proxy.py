"""The bad network does what it says."""

import asyncio
import contextlib
from contextlib import asynccontextmanager

import pytest

from tests.rigs.proxy import ChaosProxy


async def echo(reader, writer):
    try:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@pytest.fixture
async def proxy():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with ChaosProxy(server.sockets[0].getsockname()[:2]) as running:
        yield running
    server.close()
    await server.wait_closed()


@asynccontextmanager
async def client_of(proxy):
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_it_forwards(proxy):
    async with client_of(proxy) as (reader, writer):
        writer.write(b"x" * 100_000)
        writer.write_eof()
        assert await reader.read() == b"x" * 100_000
        assert proxy.connections == 1


@pytest.mark.parametrize("count", [1, 5, 9])
async def test_a_cut_lets_exactly_so_many_bytes_through(proxy, count):
    async with client_of(proxy) as (reader, writer):
        proxy.set_weather("down", cut_after_bytes=count)
        writer.write(b"0123456789")
        assert await reader.read() == b"0123456789"[:count]
        assert proxy.weather["down"].cut_after_bytes is None


async def test_a_black_hole_keeps_bytes_until_it_heals(proxy):
    async with client_of(proxy) as (reader, writer):
        proxy.blackhole("down")
        writer.write(b"x")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)
        assert proxy.passed == {"up": 1, "down": 0}
        proxy.heal()
        assert await reader.read(1) == b"x"


async def test_a_reset_reaches_both_sides(proxy):
    async with client_of(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.read(1)
        proxy.reset_all()
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        async with asyncio.timeout(2):
            while proxy.links:
                await asyncio.sleep(0.01)


async def test_half_closed_the_client_hears_nothing(proxy):
    async with client_of(proxy) as (reader, writer):
        writer.write(b"x")
        await reader.read(1)
        proxy.half_close()
        writer.write(b"y")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await reader.read(1)


async def test_refusing(proxy):
    proxy.refuse = True
    with contextlib.suppress(ConnectionError):  # on connecting or on reading, as the kernel likes
        async with client_of(proxy) as (reader, _):
            assert await reader.read() == b""
    assert (proxy.connections, proxy.links) == (1, 0)
    proxy.heal()
    async with client_of(proxy) as (reader, writer):
        writer.write(b"x")
        assert await reader.read(1) == b"x"


async def test_latency_and_rate(proxy):
    loop = asyncio.get_running_loop()
    async with client_of(proxy) as (reader, writer):
        proxy.set_weather("up", latency_s=0.1)
        proxy.set_weather("down", rate_bytes_s=1000, chunk_bytes=10)
        start = loop.time()
        writer.write(bytes(100))
        assert await reader.readexactly(100) == bytes(100)
        assert loop.time() - start >= 0.19


async def test_weather_that_there_is_not(proxy):
    with pytest.raises(AttributeError):
        proxy.set_weather(rain=1)
