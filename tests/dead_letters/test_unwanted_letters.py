"""What an upstream refused, and by its new routes does not want any more, stays a dead letter: it never vanishes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from pydantic_core import to_json

from agent.composition import catalogue
from agent.config import load_config
from agent.dead_letters import TABLE
from agent.sync.requeued import LetterBatch, RequeueingConsumer
from buffer import DiskFault
from tests.dead_letters.test_requeue import letters_of, ordered
from tests.rigs import stored
from tests.rigs.configuration import counting_source, device, upstream
from tests.sync.memory_buffer import MemoryConsumer, reading

if TYPE_CHECKING:
    from pathlib import Path

    from agent.composition.dead_letters import DeadLetters

WHY = "the upstream cloud does not want 1 of its 2 readings any more: see its `sources`, `lanes` and `tags`"


def configured(folder: Path, **options: Any) -> Path:
    path = folder / "outstation.toml"
    path.write_text(device(counting_source(1), upstream("http://127.0.0.1:1/readings", **options)))
    return path


async def refused(letters: DeadLetters) -> None:
    """A dead letter with readings of two lanes."""
    letter = {
        "t": 1_790_000_000.0,
        "stage": "upstream",
        "reason": "no",
        "upstream": "cloud",
        "device_id": "greenhouse-3",
        "store_id": "5a" * 16,
        "readings": [[n, reading("soil", n, lane=lane)] for n, lane in enumerate(("alarm", "normal"), 1)],
    }
    ids = letters._buffer.append([to_json(letter)], table=TABLE)
    await letters._buffer.wait_durable(ids[-1], table=TABLE)


async def taken(letters: DeadLetters) -> object:
    """What the upstream's sender gets."""
    return await RequeueingConsumer(MemoryConsumer(), letters.to("cloud")).take(1000)


async def test_an_order_says_why_it_is_left_alone(tmp_path: Path):
    async with letters_of(configured(tmp_path, lanes=["alarm"])) as letters:
        await refused(letters)
        handled = await ordered(letters)
        assert (handled.sending, handled.left) == (0, ((1, WHY),))
        assert await taken(letters) is None
    assert list(stored.documents(tmp_path / "buffer", "dead_letters")) == [1]


async def test_one_that_cannot_be_read_keeps_nobody_back(tmp_path: Path, monkeypatch: Any, caplog: Any):
    async with letters_of(configured(tmp_path)) as letters:
        await refused(letters)
        await refused(letters)
        log = letters._buffer.database.log(TABLE)
        find = log.find

        def sick(letter_id: int) -> Any:
            if letter_id == 1:
                raise DiskFault("Input/output error")
            return find(letter_id)

        monkeypatch.setattr(log, "find", sick)
        assert (await ordered(letters)).sending == 2
        batch = await taken(letters)
        assert isinstance(batch, LetterBatch)
        assert batch.letter_id == 2
        assert "dead letter 1 stays one" in caplog.text
        await letters.settle()
    assert list(stored.documents(tmp_path / "buffer", "dead_letters")) == [1, 2]


async def test_on_its_way_it_turns_back_when_the_routes_change(tmp_path: Path, caplog: Any):
    async with letters_of(configured(tmp_path)) as letters:
        await refused(letters)
        assert (await ordered(letters)).sending == 1
    config = configured(tmp_path, lanes=["alarm"])
    async with letters_of(config) as letters:
        assert letters.to("cloud").readings == 2
        assert await taken(letters) is None
        assert WHY in caplog.text
        await letters.settle()
        assert letters.to("cloud").readings == 0
        assert (await ordered(letters)).left == ((1, WHY),)
    assert list(stored.documents(tmp_path / "buffer", "dead_letters")) == [1]
    configured(tmp_path, lanes=["alarm", "normal"])
    async with letters_of(config) as letters:
        assert letters.to("cloud").readings == 0, "it was ordered anew by nobody"
        assert (await ordered(letters)).sending == 1
        await letters.use(await asyncio.to_thread(load_config, config, catalogue()))
        batch = await taken(letters)
        assert isinstance(batch, LetterBatch)
        assert len(batch) == 2
