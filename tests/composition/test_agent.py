"""The agent as composed from a configuration, in this process; journeys run it as a process of its own."""

import asyncio
import threading
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.composition import Agent, catalogue
from agent.composition import agent as composed_agent
from agent.composition import sources as composed_sources
from agent.config import load_config
from agent.spine.spine import open_spine
from collectors.enums import TaskStatus

SOURCE = """
[device]
id = "bench"

[[source]]
id = "sim"
driver = "simulated"
rate = 200
tags = { bed = "north" }
signals = [{ name = "n", kind = "counter" }]

[[pipeline]]
sources = ["sim"]

[[pipeline.step]]
processor = "scale"
metric = "n"
factor = 2.0

[buffer]
path = "buffer"
window = "20 ms"
"""
UPSTREAM = """
[[upstream]]
name = "{name}"
driver = "mqtt"
url = "mqtt://127.0.0.1:1"
"""


@asynccontextmanager
async def running(folder: Path, *upstreams: str, before_it_opens=None):
    path = folder / "agent.toml"
    named = (each if "[[" in each else UPSTREAM.format(name=each) for each in upstreams)
    path.write_text(SOURCE + "".join(named))

    def load():
        return load_config(path, catalogue())

    async with open_spine(close_timeout_s=1) as spine:
        agent = await asyncio.to_thread(lambda: Agent(load(), spine, load, path))
        if before_it_opens is not None:
            await before_it_opens(agent)
        await agent.buffer.connect()
        try:
            await agent.start()
            yield agent, spine
        finally:
            await agent.settle()
            await agent.disconnect_sources()
            await agent.stop()
            await agent.buffer.disconnect()


async def until(condition):
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.005)


async def test_readings_go_through_the_pipeline_into_the_buffer(tmp_path):
    async with running(tmp_path, "cloud") as (agent, _):

        async def enough():
            return (await agent.report()).buffer.stored >= 20

        await until(enough)
        report = await agent.report()
        records = await agent.buffer.recent(5)
    assert {record.document["source"] for record in records} == {"sim"}
    assert {record.document["values"]["n"] % 2 for record in records} == {0}
    assert records[0].document["tags"] == {"bed": "north"}
    assert records[0].document["boot"] == 1
    assert report.sources[0].state == "connected"
    assert report.upstreams[0].backlog > 0
    assert report.summary().startswith("cloud: ")
    assert "cannot be reached" in report.summary()


async def test_everything_in_the_background_is_tracked(tmp_path):
    async with running(tmp_path, "cloud", "spare") as (_, spine):

        async def all_run():
            return {info.status for info in spine.tasks.list_tasks()} == {TaskStatus.RUNNING}

        await until(all_run)
        tasks = spine.tasks.list_tasks()
        kinds = sorted(info.task_type for info in tasks)
        assert len({info.task_id for info in tasks}) == len(tasks)
    assert {"acknowledge", "clock", "collection", "status"} <= set(kinds)
    assert kinds.count("sync") == 2


async def test_an_upstream_that_was_removed_holds_nothing_back(tmp_path, caplog):
    async def known():
        return agent.buffer.database.consumers() == ["cloud", "old"]

    async with running(tmp_path, "cloud", "old") as (agent, _):
        await until(known)
    async with running(tmp_path, "cloud") as (agent, _):
        assert agent.buffer.database.consumers() == ["cloud"]
    assert "old is not configured any more" in caplog.text


BROKEN = """
[[source]]
id = "broken"
driver = "simulated"
rate = 200
"""


@pytest.mark.parametrize("breaks", ["when it is made", "when it is begun"])
async def test_a_source_that_cannot_be_used_harms_no_other_and_is_tried_again_when_told(
    tmp_path, monkeypatch, breaks
):
    def spoilt(config, source, clock, **options):
        if source.id == "broken" and breaks == "when it is made":
            raise RuntimeError("libsensor.so is not there")
        made = composed(config, source, clock, **options)
        if source.id == "broken":
            made.get_source_id = lambda: ""
        return made

    composed = composed_sources.create_source
    monkeypatch.setattr(composed_sources, "create_source", spoilt)
    async with running(tmp_path, BROKEN) as (agent, _):

        async def states():
            return {source.source_id: source.state for source in (await agent.report()).sources}

        async def one_fails():
            return await states() == {"sim": "connected", "broken": "failing"}

        async def both_run():
            return await states() == {"sim": "connected", "broken": "connected"}

        await until(one_fails)
        report = await agent.report()
        assert "it cannot be used: " in report.sources[1].last_error
        assert "source broken: link down: it cannot be used" in report.summary()
        before = report.sources[0].frames
        await agent.reload.reload()
        assert agent.reload.loaded.refused is None
        await until(one_fails)
        monkeypatch.undo()
        await agent.reload.reload()
        await until(both_run)
        assert (await agent.report()).sources[0].frames > before


async def test_a_source_that_cannot_be_used_keeps_no_agent_from_a_buffer_that_opens_late(
    tmp_path, monkeypatch
):
    def spoilt(config, source, clock, **options):
        if source.id == "broken":
            raise RuntimeError("libsensor.so is not there")
        return composed(config, source, clock, **options)

    async def one_fails(agent):
        states = {source.source_id: source.state for source in (await agent.report()).sources}
        return states == {"sim": "connected", "broken": "failing"}

    async def fail_to_open(agent):
        await agent.buffer_failed(OSError("no card"))
        await until(partial(one_fails, agent))

    composed = composed_sources.create_source
    monkeypatch.setattr(composed_sources, "create_source", spoilt)
    async with running(tmp_path, BROKEN, before_it_opens=fail_to_open) as (agent, _):
        await until(partial(one_fails, agent))


async def test_what_to_do_about_a_buffer_that_is_somebody_elses_is_said(tmp_path, monkeypatch):
    async def denied():
        cause = PermissionError(13, "Permission denied", str(tmp_path / "buffer"))
        raise ConnectionError(f"the buffer cannot be opened: {cause}") from cause

    async def fail_to_open(agent):
        with monkeypatch.context() as patch:
            patch.setattr(agent.buffer, "connect", denied)
            patch.setattr("os.geteuid", lambda: 3_999_999_999)
            with pytest.raises(ConnectionError, match="`sudo install -d -m 750 -o 3999999999 ") as caught:
                await agent.open_buffer()
        await agent.buffer_failed(caught.value)
        report = await agent.report()
        assert f"NOT STORING: it does not open: {caught.value}" in report.summary()
        assert not agent.buffer_is_opening

    async with running(tmp_path, before_it_opens=fail_to_open):
        pass


async def test_a_disk_that_hangs_only_when_it_is_asked_for_the_remedy_is_said_to_hang(tmp_path, monkeypatch):
    answers = threading.Event()

    def hang(*_):
        assert answers.wait(30)
        return ""

    async def denied():
        raise ConnectionError("denied")

    async def fail_to_open(agent):
        with monkeypatch.context() as patch:
            patch.setattr(agent.buffer, "connect", denied)
            patch.setattr(composed_agent, "remedy", hang)
            opening = asyncio.create_task(agent.open_buffer())
            try:
                await asyncio.wait([opening], timeout=0.05)
                assert agent.buffer_is_opening
                await agent.buffer_hangs()
            finally:
                answers.set()
            with pytest.raises(ConnectionError, match="denied"):
                await opening
        assert not agent.buffer_is_opening

    async with running(tmp_path, before_it_opens=fail_to_open):
        pass


@pytest.mark.parametrize("fails_at", ["resume", "use_memory"])
async def test_a_driver_that_fails_at_what_is_stored_harms_nobody(tmp_path, monkeypatch, fails_at):
    def refuse(*_):
        raise RuntimeError("a bug in a driver")

    def spoilt(config, source, clock, **options):
        made = composed(config, source, clock, **options)
        if source.id == "broken":
            made.resume_readings = 10
            made.resume = lambda *_: None
            setattr(made, fails_at, refuse)
        return made

    composed = composed_sources.create_source
    monkeypatch.setattr(composed_sources, "create_source", spoilt)
    async with running(tmp_path, BROKEN) as (agent, spine):

        async def both_run():
            return {source.state for source in (await agent.report()).sources} == {"connected"}

        await until(both_run)
        assert spine.errors.reported == 1
