"""The trial of a release on a copy of the buffer: what it leaves behind, and what power cuts left."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buffer import BufferDB
from buffer.copying import clear_abandoned_copies, folder_for_copy
from tests.rigs.programs import Program, run_command, until

if TYPE_CHECKING:
    from collections.abc import Iterator

SIMULATED = """
[[source]]
id = "house"
driver = "simulated"
signals = [{{ name = "temperature", kind = "sine" }}]

[buffer]
path = "{path}"
"""


def abandoned(parent: Path) -> Path:
    """A copy as a power cut leaves it."""
    copy = parent / ".self-test-abc/buffer/readings"
    copy.mkdir(parents=True)
    (copy / "0000").write_bytes(b"a sealed segment")
    return parent / ".self-test-abc"


def test_what_a_power_cut_left_is_cleared_away(tmp_path: Path) -> None:
    left = abandoned(tmp_path)
    (tmp_path / "buffer").mkdir()
    clear_abandoned_copies(tmp_path / "buffer")
    assert not left.exists()
    assert (tmp_path / "buffer").exists()
    clear_abandoned_copies(tmp_path / "not there/buffer")


def test_a_copy_in_use_is_left_alone_by_the_agent(tmp_path: Path) -> None:
    buffer = tmp_path / "buffer"
    with folder_for_copy(buffer) as folder:
        (folder / "buffer").mkdir()
        clear_abandoned_copies(buffer)
        assert (folder / "buffer").exists()
    assert list(tmp_path.iterdir()) == []


def test_the_next_trial_clears_it_away(tmp_path: Path) -> None:
    left = abandoned(tmp_path)
    config = tmp_path / "outstation.toml"
    config.write_text(SIMULATED.format(path=tmp_path / "buffer"))
    outstation = Path(sys.executable).with_name("outstation")
    done = subprocess.run(
        [outstation, "self-test", "--config", config], check=True, capture_output=True, text=True
    )
    assert "there is no buffer yet" in done.stdout
    assert not left.exists()


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Path]:
    """A buffer that is a file system by itself, so that nothing beside it can be linked to it."""
    parent = tmp_path / "parent"
    for place in (parent, parent / "buffer"):
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", place], check=True)
    yield parent / "buffer"
    for place in (parent / "buffer", parent):
        subprocess.run(["umount", place], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="file systems are mounted as root")
def test_where_there_are_no_hard_links_it_is_copied_if_there_is_room(apart: Path) -> None:
    with BufferDB(apart, segment_bytes=1 << 20, reserve_bytes=0) as db:
        db.table("readings").insert_multiple([{"n": n, "text": "x" * 980} for n in range(8_000)])
    config = apart.parent / "outstation.toml"
    config.write_text(SIMULATED.format(path=apart))
    assert len(list((apart / "readings").glob("s.*"))) > 2
    assert (
        run_command("self-test", "--config", config).stdout == "self-test: passed: 8000 readings, on a copy\n"
    )
    (apart.parent / "full").write_bytes(bytes(20 << 20))
    refused = run_command("self-test", "--config", config)
    assert refused.returncode == 1
    assert re.search(r"cannot be linked to from .* no room to copy its \d+ MB", refused.stderr)
    assert not list(apart.parent.glob(".self-test-*"))


async def test_the_agent_clears_it_away_while_it_collects(tmp_path: Path) -> None:
    left = abandoned(tmp_path)
    config = tmp_path / "outstation.toml"
    config.write_text(SIMULATED.format(path=tmp_path / "buffer"))
    with Program("run", "--config", config, log=tmp_path / "log") as agent:
        agent.start()
        await until(lambda: not left.exists(), "the copy is gone", timeout_s=30)
        assert agent.running
