"""Dead letters from the sensor to the cloud: looked at, mended, taken again beside a running agent, and once."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agent.cli import main
from tests.rigs import cloud, stored
from tests.rigs.configuration import DEVICE_ID, counting_source, device, serial_source, upstream
from tests.rigs.programs import AgentProgram, free_port, receiver_program, until
from tests.rigs.pty import PtySensor

if TYPE_CHECKING:
    from pathlib import Path

WRONG = {"type": "csv", "columns": ["n"]}
RIGHT = {"type": "csv", "columns": ["n", "celsius"]}


Outstation = Callable[..., Awaitable[str]]


@pytest.fixture
def outstation(capsys: pytest.CaptureFixture[str]) -> Outstation:
    """Runs a command, and gives what it says. In this process: starting one takes a second."""

    async def run(*arguments: object, status: int = 0) -> str:
        capsys.readouterr()
        ended = await asyncio.to_thread(main, list(map(str, arguments)))
        said = capsys.readouterr()
        assert ended == status, said.err + said.out
        return said.out + said.err

    return run


async def test_a_wrong_codec_costs_no_reading_once_it_is_put_right(tmp_path: Path, outstation: Outstation):
    url = f"http://127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        sensor = await stack.enter_async_context(PtySensor(tmp_path))
        receiver = stack.enter_context(receiver_program(tmp_path, url))

        def config(codec: dict[str, Any]) -> str:
            return device(serial_source(sensor.port, codec=codec), upstream(f"{url}/readings"))

        agent = stack.enter_context(AgentProgram(tmp_path, config(WRONG)))
        receiver.start()
        agent.start()
        await agent.until(lambda r: r.sources[0].state == "connected", "the port")
        for number in range(30):
            await sensor.write(b"%d,21.5\n" % number)
        await sensor.write(b"noise\n")
        await agent.until(lambda r: r.buffer.dead_letters == 31, "garbage")
        letters = ["dead-letters", "list", "--config", agent.config_file]
        while "31  boiler, decode" not in await outstation(
            *letters
        ):  # what is not committed is not on the disk
            await asyncio.sleep(0.1)
        arrived = [json.loads(line)["time"] for line in (await outstation(*letters, "--json")).splitlines()]

        agent.config_file.write_text(config(RIGHT))
        agent.signal(signal.SIGHUP)
        await until(lambda: "is in use" in agent.log, "the fix")
        requeue = ["dead-letters", "requeue", "--all", "--config", agent.config_file]
        told = await outstation(*requeue, status=1)
        assert told.startswith("30 dead letters taken again\n1 dead letter left alone:\n  31: ")
        assert (await outstation(*requeue, status=1)).startswith("0 dead letters taken again")
        assert "1 dead letter dropped" in await outstation(
            "dead-letters", "drop", "31", "--config", agent.config_file
        )
        assert await outstation(*letters) == "no dead letters\n"
        await sensor.write(b"30,22.5\n")
        await until(lambda: cloud.count(tmp_path / "cloud.sqlite") == 31, "everything arrives")
        report = await agent.until(lambda r: r.buffer.dead_letters == 0, "none is left")
        assert report.sources[0].dead_letters == 31
        assert (await agent.stop())[0] == 0
    rows = cloud.rows(tmp_path / "cloud.sqlite")
    assert [row.document["values"]["n"] for row in rows] == list(range(31))
    taken = [datetime.fromisoformat(time).timestamp() for time in arrived[:30]]
    # Of a clock that nobody synchronises a time is worked out again from the uptime, which is read microseconds later.
    assert [row.document["t"] for row in rows[:30]] == pytest.approx(taken, abs=0.001, rel=0)


@asynccontextmanager
async def refusing(port: int) -> AsyncIterator[None]:
    """A cloud that will never take anything."""

    async def refuse(_: web.Request) -> web.Response:
        return web.Response(status=400, text="unknown tenant")

    app = web.Application()
    app.router.add_post("/readings", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield
    finally:
        await runner.cleanup()


async def test_what_an_upstream_refused_is_sent_again_under_its_keys_through_a_kill(
    tmp_path: Path, outstation: Outstation
):
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    config = device(counting_source(40), upstream(f"{url}/readings", batch_readings=10))
    database = tmp_path / "cloud.sqlite"
    with AgentProgram(tmp_path, config) as agent, receiver_program(tmp_path, url) as receiver:
        async with refusing(port):
            agent.start()
            await agent.until(lambda r: r.upstreams[0].set_aside >= 30, "what is refused is set aside")
        shown = await outstation("dead-letters", "show", "1", "--config", agent.config_file)
        assert "unknown tenant" in shown
        order = ["dead-letters", "requeue", "--upstream", "cloud", "--config", agent.config_file]
        told = await outstation(*order)
        assert "on the way to their upstream" in told
        listed = await outstation("dead-letters", "list", "--config", agent.config_file)
        assert "on its way to cloud again; " in listed
        agent.kill()
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        agent.start()
        await agent.until(lambda r: r.buffer.dead_letters == 0, "they have left")
        await until(lambda: cloud.count(database) > 60, "the rest arrives, too")
        assert (await agent.stop())[0] == 0
    rows = cloud.rows(database)
    kept = stored.documents(agent.buffer)
    assert len({row.seq for row in rows}) == len(rows)
    assert {row.seq for row in rows} >= set(range(1, 31))
    for row in rows:
        assert row.device_id == DEVICE_ID
        assert row.document["values"] == kept[row.seq]["values"]


async def test_dead_letters_of_a_stopped_agent_are_exported_tried_and_taken_again(
    tmp_path: Path, outstation: Outstation
):
    async with PtySensor(tmp_path) as sensor:
        source = serial_source(sensor.port, codec=WRONG)
        with AgentProgram(tmp_path, device(source)) as agent:
            agent.start()
            await agent.until(lambda r: r.sources[0].state == "connected", "the port")
            await sensor.write(b"1,2\n3,4\n")
            await agent.until(lambda r: r.buffer.dead_letters == 2, "garbage")
            assert (await agent.stop())[0] == 0
            agent.config_file.write_text(device(serial_source(sensor.port, codec=RIGHT)))
            export = tmp_path / "letters.jsonl"
            config = ["--config", agent.config_file]
            await outstation("dead-letters", "export", "-o", export, *config)
            assert "is there already" in await outstation(
                "dead-letters", "export", "-o", export, *config, status=2
            )
            tried = await outstation("try", export, *config)
            assert "= stored" in tried
            assert stored.documents(agent.buffer) == {}
            assert "2 dead letters taken again" in await outstation("dead-letters", "requeue", "1-2", *config)
    values = [document["values"] for document in stored.documents(agent.buffer).values()]
    assert values == [{"n": 1, "celsius": 2}, {"n": 3, "celsius": 4}]
    assert stored.documents(agent.buffer, "dead_letters") == {}


async def test_what_is_wrong_with_an_order_is_told(tmp_path: Path, outstation: Outstation):
    config = tmp_path / "agent.toml"
    config.write_text(device(counting_source(1)))
    for action in ("requeue", "drop"):
        assert "or --all" in await outstation("dead-letters", action, "--config", config, status=2)
    assert "'x' is no id of a dead letter" in await outstation(
        "dead-letters", "list", "x", "--config", config, status=2
    )
    assert "there is no buffer" in await outstation("dead-letters", "list", "--config", config, status=2)
    with AgentProgram(tmp_path, config.read_text()) as agent:
        agent.start()
        await agent.until(lambda r: r.buffer.stored, "it runs")
        for action in ("show", "requeue", "drop"):
            told = await outstation("dead-letters", action, "7", "8-9", "--config", config, status=1)
            assert told.startswith("there is no such dead letter")
        assert (
            await outstation("dead-letters", "drop", "--all", "--config", config)
            == "0 dead letters dropped\n"
        )
        agent.socket.unlink()
        told = await outstation("dead-letters", "drop", "--all", "--config", config, status=1)
        assert "it may be starting or stopping; try again" in told
