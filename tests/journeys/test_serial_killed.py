"""A serial sensor cannot repeat what it said: a kill costs at most the last commit window."""

from __future__ import annotations

import asyncio
import random
import time
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.rigs import stored
from tests.rigs.configuration import device, serial_source
from tests.rigs.programs import AgentProgram, seed_of
from tests.rigs.pty import PtySensor
from tests.rigs.serial_sensors import SerialCounter

if TYPE_CHECKING:
    from pathlib import Path

WINDOW_S = 1.0
COMMIT_S = 0.3
SERIAL_HZ = 100.0
KILLS = 3


async def test_a_kill_costs_at_most_the_last_commit_window(tmp_path: Path):
    rng = random.Random(seed_of("test_serial_killed"))
    async with PtySensor(tmp_path) as port, asyncio.TaskGroup() as group:
        serial = SerialCounter(port, SERIAL_HZ)
        counting = group.create_task(serial.speak())
        config = device(serial_source(port.port), window=f"{WINDOW_S} s")
        with AgentProgram(tmp_path, config) as agent:
            listened: list[tuple[float, float]] = []
            for _ in range(KILLS):
                agent.start()
                report = await agent.until(lambda r: r.sources[0].state == "connected", "the port")
                await asyncio.sleep(rng.uniform(1.2, 2.8))
                agent.kill()
                assert report.sources[0].since is not None
                listened.append((report.sources[0].since.timestamp(), agent.killed[-1][0]))
            agent.start()
            report = await agent.until(lambda r: r.sources[0].frames, "the last life")
            assert report.sources[0].since is not None
            counting.cancel()
            await asyncio.sleep(0.2)  # the last line arrives
            assert (await agent.stop())[0] == 0
            listened.append((report.sources[0].since.timestamp(), time.time()))
    kept = [document["values"]["n"] for document in stored.documents(agent.buffer).values()]
    assert all(one < next_one for one, next_one in pairwise(kept))
    missing = [at for number, at in enumerate(serial.written_at) if number not in set(kept)]
    for life, (opened, ended) in enumerate(listened):
        lost = [at for at in missing if opened < at < ended]
        killed = life < KILLS
        assert all(killed and at > ended - WINDOW_S - COMMIT_S for at in lost), (life, ended, lost)
        if killed:
            print(f"a kill cost {ended - min(lost, default=ended):.3f} s")  # noqa: T201 (a figure, shown by -s)
