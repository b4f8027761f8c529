import asyncio
import contextlib
import json
import os
import tty

import pytest

from agent.demo.link import Link
from agent.demo.sensors import PtySensor
from agent.demo.view import bars


async def test_a_sensor_speaks_json_lines_on_its_port():
    with PtySensor("greenhouse", rate_hz=500, seed=1) as sensor:
        port = os.open(sensor.port, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(port)
        os.set_blocking(port, False)
        speaking = asyncio.create_task(sensor.run())
        heard = b""
        while heard.count(b"\n") < 20:
            await asyncio.sleep(0.01)
            try:
                heard += os.read(port, 65536)
            except BlockingIOError:
                continue
        speaking.cancel()
        os.close(port)
    lines = [json.loads(line) for line in heard.splitlines()[:20]]
    assert [line["n"] for line in lines] == list(range(20))
    assert set(lines[0]) == {"n", "temperature", "humidity"}


async def test_what_nobody_hears_is_counted():
    with PtySensor("greenhouse", rate_hz=1e6, seed=1) as sensor:
        speaking = asyncio.create_task(sensor.run())
        while not sensor.unread:
            await asyncio.sleep(0.01)
        speaking.cancel()
    assert sensor.written > sensor.unread


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(100):
            writer.write(data)
    finally:
        writer.close()


async def test_the_link_passes_cuts_and_comes_back_on_the_same_port():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Link(server.sockets[0].getsockname()[1]) as link:
        port = link.port
        for _ in range(3):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"ping")
            assert await reader.readexactly(4) == b"ping"
            await link.cut()
            assert not link.up
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read(1) == b""
            writer.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            await link.restore()
            assert link.up


async def test_without_a_target_the_link_resets():
    async with Link(1) as link:
        reader, writer = await asyncio.open_connection("127.0.0.1", link.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read(1) == b""
        writer.close()


def test_the_backlog_is_drawn_from_its_beginning_to_its_end():
    assert bars([]) == ""
    assert bars([0, 0]) == "▁▁"
    assert bars([0, 35, 70, 0]) == "▁▄█▁"
    rising_and_drained = bars([0] * 30 + list(range(40)) + [0] * 50)
    assert len(rising_and_drained) == 40
    assert rising_and_drained.startswith("▁" * 10)
    assert rising_and_drained.endswith("▁" * 16)
    assert "█" in rising_and_drained
    assert len(bars(range(1000))) <= 56
