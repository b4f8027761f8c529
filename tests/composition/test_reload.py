"""A change of configuration while it runs: what is the same goes on, the rest is as after a fresh start."""

from __future__ import annotations

import asyncio
import logging
import shutil
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent import logs
from agent import reload as reload_module
from agent.composition import Agent, catalogue
from agent.composition import pipelines as composed_pipelines
from agent.config import load_config
from agent.spine.spine import open_spine
from agent.status.socket import ask_status
from buffer.options import CHANGEABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

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

    async def change(self, *tables: str, head: str = HEAD, beside: Sequence[str] = ()) -> None:
        await asyncio.to_thread(write, self.path, head, tables, beside)
        await self.agent.reload.reload()

    async def frames(self) -> dict[str, int]:
        return {source.source_id: source.frames for source in (await self.agent.report()).sources}

    async def more_frames(self) -> None:
        before = await self.frames()
        async with asyncio.timeout(10):
            while not all(count > before.get(name, 0) for name, count in (await self.frames()).items()):
                await asyncio.sleep(0.005)

    async def conditions(self, **wanted: str) -> None:
        async with asyncio.timeout(10):
            while {s.source_id: s.condition for s in (await self.agent.report()).sources} != wanted:
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


@pytest.fixture(autouse=True)
def _log_levels_stay():
    levels = {name: logging.getLogger(name).level for name in ("agent", "buffer", "drivers")}
    yield
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def write(path, head: str, tables: Sequence[str], beside: Sequence[str]) -> None:
    """The file, and those of `conf.d` beside it."""
    path.write_text(head + "\n".join(tables))
    shutil.rmtree(path.parent / "conf.d", ignore_errors=True)
    for number, text in enumerate(beside):
        (path.parent / "conf.d").mkdir(exist_ok=True)
        (path.parent / "conf.d" / f"{number}.toml").write_text(text)


@asynccontextmanager
async def running(
    folder, *tables: str, head: str = HEAD, beside: Sequence[str] = (), log_level_given: bool = False
):
    path = folder / "agent.toml"
    await asyncio.to_thread(write, path, head, tables, beside)

    def load(**checks):
        return load_config(path, catalogue(), note_secrets=True, **checks)

    async with open_spine(close_timeout_s=1) as spine:
        config = await asyncio.to_thread(load)
        logs.set_level("info" if log_level_given else config.agent.log_level)
        again = partial(load, check_files=True)
        agent = await asyncio.to_thread(
            lambda: Agent(config, spine, again, path, log_level_given=log_level_given)
        )
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


async def test_a_step_that_cannot_be_made_harms_nothing_else_and_is_tried_again_when_told(
    tmp_path, monkeypatch
):
    def spoilt(name, options):
        if name == "scale":
            raise RuntimeError("libmath.so is not there")
        return made(name, options)

    made = composed_pipelines.create_processor
    told = "step 2 of p (scale) cannot be used: libmath.so is not there"
    tables = [source("a"), source("b"), pipeline("p", TAG, SCALE, sources='"a"')]
    with monkeypatch.context() as patch:
        patch.setattr(composed_pipelines, "create_processor", spoilt)
        async with running(tmp_path, *tables) as device:
            await device.conditions(a="garbage", b="ok")
            assert told in (await device.agent.report()).sources[0].garbage
            assert {document["source"] for document in await device.newest(5)} == {"b"}, (
                "none is kept unscaled"
            )
            await device.change(*tables)
            assert device.agent.reload.loaded.refused is None, "it is no worse than it was"
            await device.change(*tables, pipeline("q", SCALE, sources='"b"'))
            assert device.agent.reload.loaded.refused == told.replace("2 of p", "1 of q")
            patch.undo()
            await device.change(*tables)
            await device.conditions(a="ok", b="ok")
            letters = [
                record.document for record in await device.agent.buffer.recent(1, table="dead_letters")
            ]
            assert told in letters[0]["reason"]


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
        monkeypatch.setattr("agent.intake._PAUSE_TIMEOUT_S", 0.01)
        async with device.agent._processing.intake._passages.one():
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


async def test_what_cannot_be_changed_while_it_runs_changes_nothing_and_is_named(tmp_path):
    async with running(tmp_path, source("a")) as device:
        text = HEAD.replace("bench", "other").replace('"buffer"', '"elsewhere"') + source("b")
        await asyncio.to_thread(device.path.write_text, text)
        await device.agent.reload.reload()
        report = await device.agent.report()
        assert report.configuration.needs_restart == ["device.id", "buffer.path"]
        assert report.configuration.refused.startswith(
            "needs a restart: device.id and buffer.path; until then"
        )
        assert "the changed configuration needs a restart: device.id and buffer.path" in report.summary()
        assert list(await device.frames()) == ["a"]
        await device.change(source("b"))
        report = await device.agent.report()
        assert (report.configuration.refused, report.configuration.needs_restart) == (None, [])


async def until_sources(device, *names):
    async with asyncio.timeout(10):
        while list(await device.frames()) != list(names):
            await asyncio.sleep(0.01)


async def test_watched_files_are_read_when_they_have_settled(tmp_path, monkeypatch):
    monkeypatch.setattr(reload_module, "WATCH_S", 0.05)
    watched = "[agent]\nwatch = true\n"
    async with running(tmp_path, watched, source("a")) as device:
        await asyncio.to_thread(device.path.write_text, HEAD + watched + source("b"))
        await until_sources(device, "b")
        folder = tmp_path / "conf.d"
        await asyncio.to_thread(folder.mkdir)
        await asyncio.to_thread((folder / "more.toml").write_text, source("c"))
        await until_sources(device, "b", "c")
        await asyncio.to_thread((folder / "more.toml").unlink)
        await until_sources(device, "b")


def secret_upstream(file: str) -> str:
    return (
        '[[upstream]]\ndriver = "mqtt"\nurl = "mqtt://127.0.0.1:1"\nusername = "u"\n'
        f'password = {{ file = "{file}" }}\n'
    )


async def sender_of(device, other_than=None):
    async with asyncio.timeout(10):
        while (sender := device.agent._deliveries._running["mqtt"].sender) in {None, other_than}:
            await asyncio.sleep(0.01)
    return sender


async def test_what_uses_a_secret_that_changed_begins_anew_and_nothing_else_does(tmp_path):
    word = tmp_path / "word"
    word.write_text("canary")
    tables = [source("a"), secret_upstream("word")]
    async with running(tmp_path, *tables) as device:
        sender, link = await sender_of(device), device.agent._sources._running["a"].source
        await device.change(*tables)
        assert await sender_of(device) is sender
        await asyncio.to_thread(word.write_text, "sesame")
        await device.change(*tables)
        assert await sender_of(device, other_than=sender)
        assert device.agent._sources._running["a"].source is link
        await asyncio.to_thread(word.unlink)
        await device.change(*tables)
        assert f"there is no file {word}" in (await device.agent.report()).configuration.refused


async def test_a_watched_secret_is_picked_up_also_one_that_was_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(reload_module, "WATCH_S", 0.05)
    watched = "[agent]\nwatch = true\n"
    async with running(tmp_path, watched, source("a")) as device:
        await device.change(watched, source("a"), secret_upstream("word"))
        assert device.agent.reload.loaded.refused is not None
        await asyncio.to_thread((tmp_path / "word").write_text, "canary")
        async with asyncio.timeout(10):
            while "mqtt" not in device.agent._deliveries._running:
                await asyncio.sleep(0.01)
        sender = await sender_of(device)
        await asyncio.to_thread((tmp_path / "word").write_text, "sesame")
        await sender_of(device, other_than=sender)


async def test_the_socket_moves_and_the_old_one_is_gone(tmp_path):
    async with running(tmp_path, source("a")) as device:
        old, new = tmp_path / "buffer" / "agent.sock", tmp_path / "s"
        await answers(old)
        await device.change('[agent]\nsocket = "s"', source("a"))
        await answers(new)
        assert not old.exists()


async def answers(path):
    async with asyncio.timeout(10):
        while not path.exists():
            await asyncio.sleep(0.01)
    return await ask_status(path)


async def test_a_log_level_of_the_command_line_counts_for_as_long_as_it_runs(tmp_path):
    async with running(tmp_path, source("a"), log_level_given=True) as device:
        await device.change('[agent]\nlog_level = "debug"', source("a"))
        assert logging.getLogger("agent").level == logging.INFO
    async with running(tmp_path, source("a")) as device:
        await device.change('[agent]\nlog_level = "debug"', source("a"))
        assert logging.getLogger("agent").level == logging.DEBUG


async def test_a_lower_quota_is_kept_and_the_buffer_is_the_same(tmp_path):
    async with running(tmp_path, source("a")) as device:
        database = device.agent.buffer.database
        await asyncio.to_thread(
            device.path.write_text, HEAD + 'quota = "8 MiB"\nfull = "block"\n' + source("a")
        )
        await device.agent.reload.reload()
        assert device.agent.reload.loaded.refused is None
        assert device.agent.buffer.database is database
        assert (await asyncio.to_thread(database.capacity)).bound_bytes == 8 << 20
        await device.more_frames()


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
heads = st.fixed_dictionaries(
    {},
    optional={
        "device.id": st.sampled_from(['"bench"', '"other"']),
        "buffer.path": st.sampled_from(['"buffer"', '"elsewhere"']),
        "buffer.window": st.sampled_from(['"20 ms"', '"1 h"']),
        "buffer.sync": st.sampled_from(['"each"', '"window"']),
        "buffer.quota": st.sampled_from(['"8 MiB"', '"1 GB"']),
        "buffer.reserve": st.sampled_from(["0", '"1 MiB"']),
        "buffer.max_age": st.sampled_from(['"1 day"', '"2 days"']),
        "buffer.keep_delivered": st.sampled_from(['"1 day"', '"2 days"']),
        "buffer.warn_below": st.sampled_from(["0", '"2 days"']),
        "buffer.card_endurance": st.just('"30 TB"'),
        "buffer.full": st.sampled_from(['"block"', '{ alarm = "drop_newest" }']),
        "agent.log_level": st.sampled_from(['"debug"', '"warning"']),
        "agent.socket": st.just('"here.sock"'),
        "agent.watch": st.sampled_from(["true", "false"]),
    },
)
configurations = st.tuples(heads, sources, pipelines, upstreams, st.integers(0, 9))
"""The last says how many tables stand in the file itself; the others are in files of `conf.d`."""


def head_of(configuration) -> str:
    keys = {"device.id": '"bench"', "buffer.path": '"buffer"', **configuration[0]}
    return "".join(f"{key} = {value}\n" for key, value in keys.items())


def fixed_of(configuration) -> tuple[str, str]:
    return (configuration[0].get("device.id", '"bench"'), configuration[0].get("buffer.path", '"buffer"'))


def files_of(configuration) -> dict[str, Any]:
    _, some_sources, some_pipelines, some_upstreams, here = configuration
    tables = [
        *(source(*one) for one in some_sources),
        *(pipeline(name, *steps) for name, steps in some_pipelines),
        *(upstream(*one) for one in some_upstreams),
    ]
    return {"tables": tables[:here], "head": head_of(configuration), "beside": tables[here:]}


def shape(agent: Agent) -> dict[str, Any]:
    """All that a configuration decides."""
    processing, manager = agent._processing, agent._processing._manager
    database = agent.buffer.database
    options = database.options
    assert options is database._retention._options is database._retention.limits._options
    return {
        "limits": {name: getattr(options, name) for name in sorted(CHANGEABLE)},
        "the next opening": {name: agent.buffer._options[name] for name in sorted(CHANGEABLE)},
        "window": database._committer._window_s,
        "warning": agent._settings._buffer_watch._warn_below_s,
        "log": [logging.getLogger(name).level for name in ("agent", "buffer", "drivers")],
        "tasks": sorted(task.get_name() for task in agent._spine.tasks._running.values()),
        "sockets": [path.name for path in agent._config.files[0].parent.rglob("*.sock")],
        "device": agent.device_id,
        "folder": agent.buffer._path,
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


def started(folder, configuration):
    files = files_of(configuration)
    return running(folder, *files["tables"], head=files["head"], beside=files["beside"])


async def settled_shape(agent: Agent) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while not agent._config.socket.exists() or any(
            each.sender is None for each in agent._deliveries._running.values()
        ):
            await asyncio.sleep(0.005)
    found = await asyncio.to_thread(shape, agent)
    found["upstreams"].sort(key=lambda pair: pair[1])
    return found


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(configurations, min_size=2, max_size=4))
async def test_a_change_leaves_exactly_what_a_fresh_start_would(tmp_path_factory, changes):
    """Or, where it needs a restart, exactly what was there before."""
    folder = await asyncio.to_thread(tmp_path_factory.mktemp, "device")
    accepted = changes[0]
    async with started(folder, accepted) as device:
        for configuration in changes[1:]:
            files = files_of(configuration)
            await device.change(*files["tables"], head=files["head"], beside=files["beside"])
            if fixed_of(configuration) == fixed_of(accepted):
                assert device.agent.reload.loaded.refused is None
                accepted = configuration
            else:
                assert device.agent.reload.loaded.needs_restart
        changed = await settled_shape(device.agent)
    async with started(folder, accepted) as device:
        fresh = await settled_shape(device.agent)
    assert changed == fresh
