"""A capture of a board says what the board said: the bytes, and, when it is played, the readings."""

from __future__ import annotations

import asyncio
import json
import signal
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING

from agent.captures.format import CaptureReader
from agent.composition import catalogue
from agent.config import load_config
from tests.rigs.configuration import device, serial_source
from tests.rigs.programs import Program, until
from tests.rigs.simulated_uno import BINARY, SimulatedUno

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import SourceConfig

READINGS = 25


def readings(source: SourceConfig, capture: Path) -> list[dict]:
    """What the agent's own framing and codec make of a capture."""
    framer, decode = source.options.framing.framer(), source.codec.codec()
    if not capture.exists() or not capture.stat().st_size:
        return []
    pieces = CaptureReader(BytesIO(capture.read_bytes())).pieces()
    frames = [frame for piece in pieces for frame in framer.feed(piece.data) if isinstance(frame, bytes)]
    return [reading.values for frame in frames for reading in decode(frame)]


async def test_it_is_recorded_and_played(tmp_path, simulator, cobs_firmware):
    capture, link, config = tmp_path / "uno.jsonl", tmp_path / "played", tmp_path / "outstation.toml"
    config.write_text(device(serial_source(link, "board", **BINARY)))
    source = (await asyncio.to_thread(load_config, config, catalogue())).source[0]
    async with SimulatedUno(tmp_path, simulator, cobs_firmware) as board:
        await board.plug()
        recorder = Program("record", board.port, "-o", capture, log=tmp_path / "record.log")
        with recorder:
            recorder.start()
            await until(lambda: len(readings(source, capture)) >= READINGS, "it records")
            recorder.signal(signal.SIGINT)
            assert await recorder.ended() == 0
    said = readings(source, capture)
    assert all(later["seq"] - one["seq"] == 1 for one, later in pairwise(said))
    player = Program("play", capture, "--speed", "10", "--link", link, log=tmp_path / "play.log")
    count = len(said) - 1
    reader = Program("read", "board", "--config", config, "-n", str(count), log=tmp_path / "read.log")
    with player, reader:
        player.start()
        await until(link.exists, "the port is there")
        reader.start()
        assert await reader.ended() == 0
        assert await player.ended() == 0
    read = [json.loads(line.partition("  ")[2]) for line in reader.log.splitlines()]
    assert read in (said[:count], said[1:])
