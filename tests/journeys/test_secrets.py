"""Secrets of a running agent: shown nowhere, whatever fails, and another one is picked up."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
from typing import TYPE_CHECKING

import pytest

from tests.rigs.configuration import counting_source, device, mqtt_source, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.programs import AgentProgram, Program, free_port, run_command, until

if TYPE_CHECKING:
    from pathlib import Path

CANARY = "c4nary-5esame"


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_no_output_shows_a_secret_and_another_one_is_picked_up(tmp_path: Path):
    port = free_port()
    for name in ("broker", "cloud"):
        (tmp_path / name).write_text(f"{CANARY}-wrong\n")
    (tmp_path / "right").write_text(f"{CANARY}-token\n")
    receiver = Program(
        *(
            "receive",
            "--from",
            f"http://127.0.0.1:{port}",
            "--into",
            f"sqlite:///{tmp_path / 'cloud.sqlite'}",
        ),
        *("--token-file", tmp_path / "right"),
        log=tmp_path / "receiver.log",
    )
    with Mosquitto(BrokerSettings(users={"me": f"{CANARY}-right"})) as broker, receiver:
        receiver.start()
        config = device(
            counting_source(20),
            mqtt_source(broker.url, username="me", password={"file": "broker"}),
            upstream(f"http://127.0.0.1:{port}/readings", token={"file": "cloud"}),
            '[agent]\nlog_level = "debug"\n',
        )
        with AgentProgram(tmp_path, config) as agent:
            agent.start()
            await agent.until(
                lambda r: r.sources[1].last_error and r.upstreams[0].holding_back, "both refused", 40
            )
            said = await shown(agent)
            (tmp_path / "broker").write_text(f"{CANARY}-right\n")
            (tmp_path / "cloud").unlink()
            agent.signal(signal.SIGHUP)
            await agent.until(lambda r: r.configuration.refused, "a secret that is missing")
            said += await shown(agent)
            (tmp_path / "cloud").write_text(f"{CANARY}-token\n")
            agent.signal(signal.SIGHUP)
            report = await agent.until(
                lambda r: r.sources[1].state == "connected" and r.upstreams[0].delivered > 5,
                "both connected",
                40,
            )
            assert report.configuration.refused is None
            said += await shown(agent)
            assert (await agent.stop())[0] == 0
        await until(lambda: received(tmp_path) > 5, "the readings")
        said += agent.log + receiver.log
    assert "there is no file" in said
    assert CANARY not in said
    kept = [file for file in (tmp_path / "buffer").rglob("*") if file.is_file()]
    assert kept
    assert not any(CANARY.encode() in file.read_bytes() for file in kept)


async def shown(agent: AgentProgram) -> str:
    """What the commands beside it show."""
    said = ""
    for command in (["status"], ["status", "--json"], ["check"], ["buffer", "stats"]):
        done = await asyncio.to_thread(run_command, *command, "--config", agent.config_file)
        said += done.stdout + done.stderr
    return said


def received(folder: Path) -> int:
    with sqlite3.connect(folder / "cloud.sqlite") as database:
        (count,) = database.execute("SELECT count(*) FROM readings").fetchone()
        return int(count)
