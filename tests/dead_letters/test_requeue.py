"""What is taken again is taken once, with the time at which it came; what fails again stays."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agent.composition import catalogue
from agent.composition.dead_letters import open_dead_letters
from agent.config import load_config
from agent.dead_letters import Handled, Order, Selection
from collectors import metadata_keys as keys
from collectors.enums import ClockQuality
from collectors.models import CollectedData
from drivers.framing import FRAMINGS
from tests.rigs import stored
from tests.rigs.configuration import device, mqtt_source, serial_source
from tests.rigs.programs import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from agent.composition.dead_letters import DeadLetters

T = 1_790_000_000.0
ALL = Selection()


def configured(folder: Path, codec: object, *tables: str) -> Path:
    path = folder / "outstation.toml"
    path.write_text(device(mqtt_source("mqtt://broker", codec=codec), *tables, serial_source("/dev/ttyUSB0")))
    return path


@asynccontextmanager
async def letters_of(config: Path) -> AsyncIterator[DeadLetters]:
    loaded = await asyncio.to_thread(load_config, config, catalogue())
    async with open_dead_letters(loaded) as letters:
        yield letters


async def take(letters: DeadLetters, *payloads: bytes, source: str = "hall", **metadata: Any) -> None:
    for number, payload in enumerate(payloads):
        await letters._processing.take_in(
            CollectedData(
                source_id=source,
                timestamp=datetime.fromtimestamp(T + number, UTC),
                data_format="json" if source == "boiler" else "csv",
                collection_method="test",
                raw_data=payload,
                metadata={keys.UP_NS: 1 + number, keys.TAKEN: (1, ClockQuality.SYNCED), **metadata},
            )
        )
    await letters._processing.settle()


async def ordered(letters: DeadLetters, do: str = "requeue", selection: Selection = ALL) -> Handled:
    order, parts = Order(do=do, selection=selection), []
    while True:
        parts.append(await letters.carry_out(order))
        if parts[-1].next is None:
            return Handled(
                taken=sum(part.taken for part in parts),
                sending=sum(part.sending for part in parts),
                left=tuple(left for part in parts for left in part.left),
            )
        order = order.model_copy(update={"after": parts[-1].next, "upto": parts[-1].upto})


CSV = {"type": "csv", "columns": ["a", "b"]}


async def test_after_a_fix_everything_is_taken_again_with_its_time_and_tags(tmp_path: Path):
    config = configured(tmp_path, {"type": "csv", "columns": ["a"]})
    async with letters_of(config) as letters:
        await take(letters, b"1,2", b"3,4", b"noise,", **{keys.TAGS: {"room": "attic"}})
        handled = await ordered(letters)
        assert (handled.taken, len(handled.left)) == (0, 3)
    assert len(stored.documents(tmp_path / "buffer", "dead_letters")) == 3
    configured(tmp_path, CSV)
    async with letters_of(config) as letters:
        handled = await ordered(letters)
        assert (handled.taken, [letter_id for letter_id, _ in handled.left]) == (2, [3])
        assert (await ordered(letters)).taken == 0
    readings = list(stored.documents(tmp_path / "buffer").values())
    assert [document["values"] for document in readings] == [{"a": 1, "b": 2}, {"a": 3, "b": 4}]
    assert [document["t"] for document in readings] == [T, T + 1]
    assert [document["tags"] for document in readings] == [{"room": "attic"}] * 2
    assert [(document["boot"], document["up"]) for document in readings] == [(1, 1), (1, 2)]
    assert list(stored.documents(tmp_path / "buffer", "dead_letters")) == [3]


async def test_only_what_is_meant_is_taken_or_dropped(tmp_path: Path):
    config = configured(tmp_path, CSV)
    async with letters_of(config) as letters:
        await take(letters, *[b"x"] * 300)
        await take(letters, b"{", source="boiler")
        dropped = await ordered(letters, "drop", Selection(ids=((1, 250),)))
        assert dropped == Handled(taken=250)
        assert (await ordered(letters, "drop", Selection(source="boiler"))).taken == 1
        assert len((await ordered(letters)).left) == 50
    assert list(stored.documents(tmp_path / "buffer", "dead_letters")) == list(range(251, 301))
    assert stored.documents(tmp_path / "buffer") == {}


async def test_what_a_window_takes_again_counts_once_and_outlives_a_restart(tmp_path: Path):
    window = '[[pipeline]]\nname = "w"\n[[pipeline.step]]\nprocessor = "aggregate"\nevery = "1 h"\nfunctions = ["sum", "count"]\n'
    config = configured(tmp_path, {"type": "csv", "columns": ["a"]}, window)
    async with letters_of(config) as letters:
        await take(letters, b"1,2", b"3,4")
    configured(tmp_path, CSV, window)
    async with letters_of(config) as letters:
        assert (await ordered(letters)).taken == 2
    assert stored.documents(tmp_path / "buffer") == {}
    configured(tmp_path, CSV)  # the step is gone: it gives what it holds
    async with letters_of(config):
        pass
    (document,) = stored.documents(tmp_path / "buffer").values()
    assert document["values"] == {"a.sum": 4, "a.count": 2, "b.sum": 6, "b.count": 2}


STEPS = """
[[pipeline]]
name = "w"

[[pipeline.step]]
processor = "aggregate"
every = "1 s"

[[pipeline.step]]
processor = "derive"
metric = "c"
expression = "{}"
"""


async def test_what_a_step_behind_a_window_could_not_process_goes_on_from_there(tmp_path: Path):
    config = configured(tmp_path, CSV, STEPS.format("a / b"))
    async with letters_of(config) as letters:
        await take(letters, b"1,0", b"2,1", b"3,0", b"4,1")
        left = (await ordered(letters)).left
        assert len(left) == 2
        assert "zero" in left[0][1]
    before = len(stored.documents(tmp_path / "buffer"))
    configured(tmp_path, CSV, STEPS.format("a + b"))
    async with letters_of(config) as letters:
        assert (await ordered(letters)).taken == 2
    made = list(stored.documents(tmp_path / "buffer").values())[before:]
    assert [document["values"]["c"] for document in made if document["values"]["b"] == 0] == [1, 3]
    assert stored.documents(tmp_path / "buffer", "dead_letters") == {}


async def test_what_was_no_frame_is_framed_as_it_is_configured_now(tmp_path: Path):
    config = configured(tmp_path, CSV)
    async with letters_of(config) as letters:
        await take(letters, b'\x02{"a": 1}\x03', source="boiler", **{keys.FRAME_ERROR: "noise"})
        assert "still no frame" in (await ordered(letters)).left[0][1]
    framing = {"type": "delimited", "start": "\x02", "end": "\x03"}
    config.write_text(device(serial_source("/dev/ttyUSB0", framing=framing)))
    async with letters_of(config) as letters:
        assert (await ordered(letters)).taken == 1
    assert [document["values"] for document in stored.documents(tmp_path / "buffer").values()] == [{"a": 1}]


@pytest.mark.parametrize("first_frame", ["keep", "discard"])
async def test_a_wrong_check_sequence_is_made_good_and_what_was_cut_off_is_not(
    tmp_path: Path, first_frame: str
):
    wrong, right = ({"type": "cobs", "crc": crc} for crc in ("crc32", "none"))
    line = FRAMINGS.choose(right).encode(b'{"a": 1}') + FRAMINGS.choose(right).encode(b'{"a": 23}')[:-2]
    framer = FRAMINGS.choose(wrong).framer()
    errors = [*framer.feed(b"\0" + line), *framer.finish()]
    config = configured(tmp_path, CSV)
    async with letters_of(config) as letters:
        for error in errors:
            await take(letters, error.raw, source="boiler", **{keys.FRAME_ERROR: error.reason})
    config.write_text(device(serial_source("/dev/ttyUSB0", framing={**right, "first_frame": first_frame})))
    async with letters_of(config) as letters:
        handled = await ordered(letters)
        assert (handled.taken, len(handled.left)) == (1, len(errors) - 1)
    assert [document["values"] for document in stored.documents(tmp_path / "buffer").values()] == [{"a": 1}]


async def test_what_is_not_configured_any_more_stays_and_says_so(tmp_path: Path):
    config = configured(tmp_path, CSV)
    async with letters_of(config) as letters:
        await take(letters, b"x")
    config.write_text(device(serial_source("/dev/ttyUSB0")))
    async with letters_of(config) as letters:
        assert (await ordered(letters)).left == (
            (1, "there is no source hall in the configuration any more"),
        )


async def killed(folder: Path, config: Path, step: int) -> list[dict[str, Any]]:
    """What is in the tables after a kill at each moment of a requeue, and another one."""
    (folder / "buffer").rename(folder / "before")
    killing = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, ROOT / "tests/rigs/letters_killed.py"),
            *(config, folder / "before", folder / "buffer", str(step)),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=110,
        check=False,
    )
    assert killing.returncode == 0, killing.stderr
    runs = [json.loads(line) for line in killing.stdout.splitlines()]
    assert len(runs) >= 20 / step
    assert [run["died"] for run in runs] == [True] * (len(runs) - 1) + [False]
    return runs


STEPS_OF_KILLS = [pytest.param(1, marks=[pytest.mark.slow, pytest.mark.timeout(120)]), 11]


@pytest.mark.parametrize("step", STEPS_OF_KILLS)
async def test_a_kill_at_any_moment_neither_loses_nor_doubles_anything(tmp_path: Path, step: int):
    config = configured(tmp_path, {"type": "csv", "columns": ["a"]})
    async with letters_of(config) as letters:
        await take(letters, *[b"%d,%d" % (n, n) for n in range(20)])
    configured(tmp_path, CSV)
    for run in await killed(tmp_path, config, step):
        values = sorted(reading["a"] for reading in run["readings"])
        assert values == list(range(20)), f"killed after {run['changes']} changes of the file system"
        assert run["letters"] == []


@pytest.mark.slow
@pytest.mark.timeout(120)
async def test_a_kill_doubles_no_letter_of_a_step_behind_a_window_either(tmp_path: Path):
    config = configured(tmp_path, {"type": "csv", "columns": ["a"]})
    async with letters_of(config) as letters:
        await take(letters, *[b"%d,%d" % (n, n % 2) for n in range(12)])
    configured(tmp_path, CSV, STEPS.format("a / b"))
    for run in await killed(tmp_path, config, 1):
        where = f"killed after {run['changes']} changes of the file system"
        assert sorted(reading["a"] for reading in run["readings"]) == [1, 3, 5, 7, 9], where  # 11 is held
        assert sorted(letter[0]["a"] for letter in run["letters"]) == [0, 2, 4, 6, 8, 10], where
