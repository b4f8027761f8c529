"""What a device tells of itself reaches `outstation gaps`: an upstream with a route leaves gaps that are no losses."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.rigs import cloud
from tests.rigs.configuration import alarming_source, counting_source, device, upstream
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.programs import AgentProgram, receiver_program, run_command, until

if TYPE_CHECKING:
    from pathlib import Path


def told(database: Path) -> int:
    """How far the device says that it is."""
    with closing(sqlite3.connect(database)) as connection:
        return int(connection.execute("SELECT coalesce(max(settled), 0) FROM extents").fetchone()[0])


pytestmark = pytest.mark.slow


async def test_with_a_route_and_without(tmp_path: Path):
    with Mosquitto() as broker, receiver_program(tmp_path, broker.url) as receiver:
        database = tmp_path / "cloud.sqlite"
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        sources = counting_source(200), alarming_source(20, every_s=0.2)
        for name, part in (("alarms", {"lanes": ["alarm"]}), ("all", {})):
            folder = tmp_path / name
            folder.mkdir()
            config = device(*sources, upstream(broker.url, ack="receiver", **part)).replace(
                "journey-pi", name
            )
            with AgentProgram(folder, config) as agent:
                agent.start()
                await agent.until(lambda r: r.buffer.stored > 100, "it measures")
                assert (await agent.stop())[0] == 0
                agent.start()  # it tells how far it is when it connects
                await agent.until(lambda r: r.upstreams[0].delivered, "it delivers")
                await until(lambda: told(database) > 50, "it tells how far it is")
                assert (await agent.stop())[0] == 0
            found = run_command("gaps", f"sqlite:///{database}", "--device", name)
            assert ("not judged" in found.stdout) is bool(part), found.stdout
            assert "unexplained" not in found.stdout, found.stdout
            assert found.returncode == 0
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("DELETE FROM extents")
                connection.commit()
    assert {row.document.get("lane") for row in cloud.rows(database) if row.device_id == "alarms"} == {
        "alarm"
    }
