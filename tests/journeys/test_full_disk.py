"""A disk of a few MB that others fill to the last byte, and free again: nothing accepted is lost, and status says it."""

from __future__ import annotations

import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.rigs import cloud, stored
from tests.rigs.configuration import counting_source, device, upstream
from tests.rigs.programs import AgentProgram, free_port, receiver_program, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.status.report import StatusReport

DISK_BYTES = 10 << 20


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(place)], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def fill(place: Path) -> None:
    """What somebody else writes until nothing more goes."""
    with (place / "others.log").open("wb", buffering=0) as others:
        try:
            while True:
                others.write(bytes(64 << 10))
        except OSError:
            return


def delivered(report: StatusReport) -> bool:
    return not report.upstreams[0].backlog and report.buffer.fault is None


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a disk; ./install.sh test in CI is root")
async def test_a_full_disk_stops_nothing_for_good_and_loses_nothing(tmp_path: Path):
    port = free_port()
    config = device(
        counting_source(200), upstream(f"http://127.0.0.1:{port}/readings"), full="block", window="100 ms"
    )
    with small_disk(tmp_path / "buffer") as disk, AgentProgram(tmp_path, config) as agent:
        agent.start()
        before = await agent.until(lambda r: r.buffer.stored > 200, "it collects")
        fill(disk)
        full = await agent.until(lambda r: r.buffer.fault, "status says that the disk is full")
        assert full.summary().startswith("buffer: ")
        assert full.pid == before.pid
        await until(lambda: "cannot write" in agent.log, "it is told")
        (disk / "others.log").unlink()
        after = await agent.until(
            lambda r: r.buffer.fault is None and r.buffer.stored > full.buffer.stored + 200, "it goes on"
        )
        assert after.pid == before.pid
        assert not after.buffer.lost
        with receiver_program(tmp_path, f"http://127.0.0.1:{port}") as receiver:
            receiver.start()
            await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
            await agent.until(delivered, "all is delivered")
            assert (await agent.stop())[0] == 0
            assert (await receiver.stop())[0] == 0
        assert "takes readings again" in agent.log
        kept = [document["values"]["n"] for document in stored.documents(agent.buffer).values()]
        assert kept == list(range(len(kept))), "none is missing that was measured"
        arrived = cloud.counters(cloud.rows(tmp_path / "cloud.sqlite"))["counter"]
        assert arrived == kept[: len(arrived)]
