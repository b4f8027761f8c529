"""A change of configuration while it runs: what is the same goes on, the rest is as after a fresh start."""

from __future__ import annotations

import asyncio
import logging
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import reload as reload_module
from agent.composition import Agent, catalogue
from agent.config import load_config
from agent.spine.spine import open_spine

HEAD = """
[device]
id = "bench"

[buffer]
path = "buffer"
window = "20 ms"
"""


def source(name: str, rate: float = 50, tags: str = "{}") -> str:
    return (
        f'[[source]]\nid = "{name}"\ndriver = "simulated"\nrate = {rate}\ntags = {tags}\n'
        'signals = [{ name = "n", kind = "counter" }]\n'
    )


def pipeline(name: str, *steps: str, sources: str = "") -> str:
    only = f"sources = [{sources}]\n" if sources else ""
    return f'[[pipeline]]\nname = "{name}"\n{only}' + "".join(
        f"[[pipeline.step]]\n{step}\n" for step in steps
    )


def upstream(name: str, port: int = 1) -> str:
    return f'[[upstream]]\nname = "{name}"\ndriver = "mqtt"\nurl = "mqtt://127.0.0.1:{port}"\n'


SCALE = 'processor = "scale"\nmetric = "n"\nfactor = 2.0'
TAG = 'processor = "tag"\ntags = { site = "north" }'
WINDOWS = 'processor = "aggregate"\nevery = "1 h"\nfunctions = ["count"]'


class Device:
    """A running agent and its file."""

    def __init__(self, agent: Agent, path) -> None:
        self.agent = agent
        self.path = path

    async def change(self, *tables: str) -> None:
        await asyncio.to_thread(self.path.write_text, HEAD + "\n".join(tables))
        await self.agent.reload.reload()

    async def frames(self) -> dict[str, int]:
        return {source.source_id: source.frames for source in (await self.agent.report()).sources}

    async def more_frames(self) -> None:
        before = await self.frames()
        async with asyncio.timeout(10):
            while not all(count > before.get(name, 0) for name, count in (await self.frames()).items()):
                await asyncio.sleep(0.005)

    async def counted(self) -> int:
        """How many readings the only window holds."""
        async with asyncio.timeout(10):
            while not (rows := self.agent._processing._held._holders[0].step.rows()):
                await asyncio.sleep(0.005)
        [row] = rows.values()
        return row["readings"][0]["values"]["n"]

    async def newest(self, n: int = 1) -> list[dict[str, Any]]:
        await self.agent.buffer.flush()
        return [record.document for record in await self.agent.buffer.recent(n)]


@asynccontextmanager
async def running(folder, *tables: str):
    path = folder / "agent.toml"
    await asyncio.to_thread(path.write_text, HEAD + "\n".join(tables))

    def load():
        return load_config(path, catalogue())

    async with open_spine(close_timeout_s=1) as spine:
        agent = await asyncio.to_thread(lambda: Agent(load(), spine, load, path))
        await agent.buffer.connect()
        try:
            await agent.start()
            yield Device(agent, path)
        finally:
            await agent.settle()
            await agent.disconnect_sources()
            await agent.stop()
            await agent.buffer.disconnect()


async def test_a_source_that_is_the_same_goes_on_undisturbed(tmp_path):
    async with running(tmp_path, source("a"), source("b")) as device:
        await device.more_frames()
        before = await device.frames()
        link = device.agent._sources._running["a"].source
        await device.change(source("a"), source("b", rate=80))
        assert device.agent._sources._running["a"].source is link
        after = await device.frames()
        assert after["a"] >= before["a"]
        assert after["b"] < before["b"], "it began anew"
        await device.more_frames()


async def test_sources_come_and_go(tmp_path):
    async with running(tmp_path, source("a")) as device:
        await device.more_frames()
        await device.change(source("c"), source("b"))
        assert list(await device.frames()) == ["c", "b"]
        await device.more_frames()
        assert {document["source"] for document in await device.newest(2)} <= {"b", "c"}


async def test_tags_and_steps_change_for_what_comes_next(tmp_path):
    async with running(tmp_path, source("a")) as device:
        await device.more_frames()
        assert "tags" not in (await device.newest())[0]
        await device.change(source("a"), pipeline("p", TAG))
        await device.more_frames()
        await device.more_frames()
        assert (await device.newest())[0]["tags"] == {"site": "north"}


async def test_a_step_that_did_not_change_goes_on_with_what_it_holds(tmp_path):
    async with running(tmp_path, source("a"), pipeline("p", WINDOWS)) as device:
        await device.more_frames()
        await device.change(source("a", rate=80), pipeline("p", WINDOWS))
        await device.more_frames()
        assert await device.newest() == [], "the window goes on"


async def test_a_pipeline_may_be_named_like_what_is_only_decoded(tmp_path):
    tables = [source("a"), source("b"), pipeline("plain", TAG, sources='"a"')]
    async with running(tmp_path, *tables) as device:
        await device.more_frames()
        await device.more_frames()
        tags = {document["source"]: document.get("tags") for document in await device.newest(500)}
        assert tags == {"a": {"site": "north"}, "b": None}


async def test_a_window_goes_on_when_another_step_of_its_pipeline_changes(tmp_path):
    async with running(tmp_path, source("a"), pipeline("p", WINDOWS, TAG)) as device:
        await device.more_frames()
        before = await device.counted()
        await device.change(source("a"), pipeline("p", WINDOWS, SCALE))
        assert await device.counted() >= before
        await device.more_frames()
        assert await device.newest() == [], "the window goes on"


async def test_what_is_held_of_a_source_that_its_pipeline_is_for_no_more_comes_out_as_it_is(tmp_path):
    tables = [source("a"), source("b"), pipeline("p", WINDOWS, TAG, sources='"a", "b"')]
    async with running(tmp_path, *tables) as device:
        await device.more_frames()
        await device.change(source("b"), pipeline("p", WINDOWS, TAG, sources='"b"'))
        held = device.agent._processing._held
        [holder] = held._holders
        async with held.passage():
            await holder.resume([reading for reading in holder.step.let_go() if reading.source == "a"])
        await held.settle()
        [kept] = await device.newest(500)
        assert (kept["source"], kept.get("tags")) == ("a", None)


async def test_a_change_that_does_not_work_leaves_everything_running_and_says_so(tmp_path, monkeypatch):
    async with running(tmp_path, source("a"), source("b")) as device:
        await device.more_frames()
        paused = asyncio.Event()
        monkeypatch.setattr("agent.intake._PAUSE_TIMEOUT_S", 0.01)
        monkeypatch.setattr(device.agent._processing.intake, "_idle", paused)
        await device.change(source("b", rate=80), source("c"))
        report = await device.agent.report()
        assert report.configuration.refused.startswith("something is in process for too long")
        assert list(await device.frames()) == ["a", "b"]
        await device.more_frames()
        monkeypatch.undo()
        await device.change(source("b", rate=80), source("c"))
        assert list(await device.frames()) == ["b", "c"]


async def test_what_comes_out_of_a_step_for_too_long_leaves_everything_running(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.composition.processing._CHANGE_TIMEOUT_S", 0.01)
    async with running(tmp_path, source("a"), pipeline("p", WINDOWS)) as device:
        async with device.agent._processing._held.passage():
            await device.change(source("a"), pipeline("p", TAG))
        assert "too long" in (await device.agent.report()).configuration.refused
        await device.more_frames()
        assert await device.counted() > 0


async def test_a_source_that_cannot_be_made_leaves_everything_running_and_says_so(tmp_path, monkeypatch):
    async with running(tmp_path, source("a")) as device:
        link = device.agent._sources._running["a"].source
        monkeypatch.setattr("agent.composition.sources.create_source", lambda *_: 1 / 0)
        await device.change(source("a", rate=80))
        assert "division by zero" in (await device.agent.report()).configuration.refused
        assert device.agent._sources._running["a"].source is link
        await device.more_frames()


async def test_a_step_that_changed_or_went_gives_what_it_holds(tmp_path):
    async with running(tmp_path, source("a"), pipeline("p", WINDOWS)) as device:
        await device.more_frames()
        await device.change(source("a"))
        async with asyncio.timeout(10):
            while not (found := await device.newest(500)):
                await asyncio.sleep(0.02)
        counted = [document for document in found if "boot" in document]
        total = sum(d["values"]["n"] for d in counted[:1])
        await device.more_frames()
        assert total >= 1
        async with asyncio.timeout(10):
            while len(await device.newest(500)) < 3:
                await asyncio.sleep(0.02)


async def test_what_comes_in_while_it_stops_is_in_its_window_on_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr("agent.held.WINDOW_S", 100.0)
    async with running(tmp_path, source("a"), pipeline("p", WINDOWS)) as device:
        await device.agent.settle()
        await device.more_frames()
        await device.agent.disconnect_sources()
        await device.agent.commit()
        held = dict(device.agent.buffer.state("held").items())
        [row] = [row for name, row in held.items() if name.startswith("p/")]
        assert row["readings"][0]["values"]["n"] == await device.counted() > 0


async def test_upstreams_come_and_go_and_the_same_one_goes_on(tmp_path):
    async with running(tmp_path, source("a"), upstream("kept"), upstream("gone")) as device:
        await device.more_frames()
        async with asyncio.timeout(10):
            while (sender := device.agent._deliveries._running["kept"].sender) is None:
                await asyncio.sleep(0.01)
        await device.change(source("a"), upstream("new"), upstream("kept"))
        assert device.agent._deliveries._running["kept"].sender is sender
        names = [status.name for status in (await device.agent.report()).upstreams]
        assert names == ["new", "kept"]
        async with asyncio.timeout(10):
            while set(device.agent.buffer.database.consumers()) != {"kept", "new"}:
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ('[[source]]\nid = "a"\ndriver = "serial"\n', "source[0]"),
        ("[[source]]\nid = 5", "source[0].driver"),
        ("not toml", "is not TOML"),
    ],
)
async def test_a_file_with_an_error_leaves_everything_running_and_says_so(tmp_path, caplog, table, says):
    async with running(tmp_path, source("a")) as device:
        before = device.agent.reload.loaded
        with caplog.at_level(logging.WARNING):
            await device.change(table)
            await device.agent.reload.reload()
        report = await device.agent.report()
        assert says in report.configuration.refused
        assert report.configuration.loaded_at == before.at
        assert "the changed configuration was refused" in report.summary()
        await device.more_frames()
        await device.change(source("a"))
        assert (await device.agent.report()).configuration.refused is None


async def test_what_cannot_be_changed_while_it_runs_changes_nothing(tmp_path):
    async with running(tmp_path, source("a")) as device:
        text = HEAD.replace("bench", "other") + source("b")
        await asyncio.to_thread(device.path.write_text, text)
        await device.agent.reload.reload()
        refused = (await device.agent.report()).configuration.refused
        assert refused == "device.id cannot be changed while it runs: restart it"
        assert list(await device.frames()) == ["a"]


async def test_a_watched_file_is_read_when_it_has_settled(tmp_path, monkeypatch):
    monkeypatch.setattr(reload_module, "WATCH_S", 0.05)
    watched = "[agent]\nwatch = true\n"
    async with running(tmp_path, watched, source("a")) as device:
        await asyncio.to_thread(device.path.write_text, HEAD + watched + source("b"))
        async with asyncio.timeout(10):
            while list(await device.frames()) != ["b"]:
                await asyncio.sleep(0.01)


sources = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([50, 80]), st.sampled_from(["{}", '{ x = "y" }'])),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one[0],
)
pipelines = st.lists(
    st.tuples(st.sampled_from("pq"), st.lists(st.sampled_from([SCALE, TAG, WINDOWS]), max_size=3)),
    max_size=2,
    unique_by=lambda one: one[0],
)
upstreams = st.lists(
    st.tuples(st.sampled_from("uv"), st.sampled_from([1, 2])), max_size=2, unique_by=lambda one: one[0]
)
configurations = st.tuples(sources, pipelines, upstreams)


def tables_of(configuration) -> list[str]:
    some_sources, some_pipelines, some_upstreams = configuration
    return [
        *(source(*one) for one in some_sources),
        *(pipeline(name, *steps) for name, steps in some_pipelines),
        *(upstream(*one) for one in some_upstreams),
    ]


def shape(agent: Agent) -> dict[str, Any]:
    """All that a configuration decides."""
    processing, manager = agent._processing, agent._processing._manager
    return {
        "sources": [(status.source_id, status.driver) for status in agent._sources.status()],
        "options": {name: one.config for name, one in agent._sources._running.items()},
        "pipelines": {
            name: [(step.order, step.processor.get_processor_name()) for step in made.get_steps()]
            for name, made in manager._pipelines.items()
        },
        "pipeline of": processing._pipeline_of,
        "holding": processing._holding,
        "holders": [holder.key for holder in processing._held._holders],
        "upstreams": [(d.config, d.config.name) for d in agent._deliveries._running.values()],
        "order": [upstream.name for upstream in agent._deliveries._configured],
        "config": agent._config,
    }


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(configurations, min_size=2, max_size=3))
async def test_a_change_leaves_exactly_what_a_fresh_start_would(tmp_path_factory, changes):
    folder = await asyncio.to_thread(tmp_path_factory.mktemp, "device")
    async with running(folder, *tables_of(changes[0])) as device:
        for configuration in changes[1:]:
            await device.change(*tables_of(configuration))
            assert device.agent.reload.loaded.refused is None
        changed = shape(device.agent)
    fresh_folder = folder
    async with running(fresh_folder, *tables_of(changes[-1])) as device:
        fresh = shape(device.agent)
    for shapes in (changed, fresh):
        shapes["upstreams"].sort(key=lambda pair: pair[1])
    assert changed == fresh
