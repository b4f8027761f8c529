"""`outstation buffer`: beside a running agent, on a damaged buffer, and where there is none."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from agent.cli import main
from buffer import BufferDB
from buffer.filesystem import SystemFileSystem
from tests.rigs.configuration import DEVICE_ID, counting_source, device, upstream
from tests.rigs.programs import COMMAND, AgentProgram, free_port, run_command

if TYPE_CHECKING:
    from pathlib import Path

RATE_HZ = 400.0


def config(*tables: str) -> str:
    return device(counting_source(RATE_HZ), *tables)


async def command(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run_command, "buffer", *arguments)


async def test_a_running_agent_is_looked_into_and_not_disturbed(tmp_path: Path):
    nobody = upstream(f"http://127.0.0.1:{free_port()}/readings")
    with AgentProgram(tmp_path, config(nobody)) as agent:
        agent.start()
        await agent.until(lambda report: report.buffer.stored > 500, "readings")
        verify, ls, stats, jsonl, table, repair = await asyncio.gather(
            command("verify", "--config", agent.config_file, "--json"),
            command("ls", agent.buffer, "--json"),
            command("stats", "--config", agent.config_file, "--json"),
            command("export", "--config", agent.config_file, "--undelivered"),
            command("export", agent.buffer, "--format", "csv", "-o", tmp_path / "out.csv"),
            command("repair", "--config", agent.config_file),
        )
        report = await agent.until(lambda report: report.buffer.stored > 1000, "more readings")
        assert report.buffer.fault is None
        assert (await agent.stop())[0] == 0
        assert "Traceback" not in agent.log

    for looked in (verify, ls, stats, jsonl, table):
        assert looked.returncode == 0, looked.stderr
    assert json.loads(verify.stdout)["sound"] is True
    assert json.loads(ls.stdout)["in_use"] is True
    (readings, *_) = json.loads(stats.stdout)["tables"]
    assert readings["rate_hz"] == pytest.approx(RATE_HZ, rel=0.3)
    (consumer,) = json.loads(stats.stdout)["consumers"]
    assert (consumer["name"], consumer["acknowledged_up_to"]) == ("cloud", 0)
    assert consumer["backlog"] == readings["records"]
    numbers = [json.loads(line)["document"]["values"]["n"] for line in jsonl.stdout.splitlines()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) > 500
    rows = list(csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text(), newline="")))
    assert [int(row["values.n"]) for row in rows] == list(range(len(rows)))
    assert {row["device_id"] for row in rows} == {DEVICE_ID}
    assert rows[0]["time"].endswith("Z")
    assert f"{len(rows):,} readings in " in table.stderr
    assert repair.returncode == 1
    assert f"open in process {agent.pid}" in repair.stderr
    assert "stop the agent first" in repair.stderr


def damaged_store(path: Path) -> None:
    """Three sealed segments of 40 readings; one byte of the second is another."""
    with BufferDB(path, threaded=False, device_id="pi", segment_bytes=4096) as db:
        for at in range(3):
            for part in range(4):
                first = 40 * at + 10 * part
                db.insert_json([b'{"source":"soil","t":%d}' % (60 * n) for n in range(first, first + 10)])
                db.flush()
            db.log("readings").roll()
    (second,) = path.glob("readings/s.0000000000000041.*")
    content = bytearray(second.read_bytes())
    content[content.index(b'"51"')] ^= 1
    second.write_bytes(content)


def test_files_that_are_gone_are_told_and_entered_at_the_next_start(tmp_path: Path, capsys):
    store = tmp_path / "buffer"
    with BufferDB(store, threaded=False, device_id="pi", segment_bytes=4096) as db:
        db.consumer("cloud")
        for first in (0, 40, 80):
            db.insert_json([b'{"source":"soil","t":%d}' % (60 * n) for n in range(first, first + 40)])
            db.flush()
            db.log("readings").roll()
    (second,) = store.glob("readings/s.0000000000000041.*")
    second.unlink()
    assert main(["buffer", "verify", str(store)]) == 1
    said, _ = capsys.readouterr()
    assert "readings: files are missing" in said
    assert (
        "lost: 40 with ids 41 to 80, measured after 1970-01-01T00:39:00Z and before 1970-01-01T01:20:00Z"
        in said
    )
    assert "what to do: put the missing files back" in said
    assert "repair" not in said
    with BufferDB(store, threaded=False, device_id="pi") as db:
        assert db.ledger.lost() == {"file missing": 40}
    assert main(["buffer", "verify", str(store)]) == 0


def test_a_damaged_buffer_is_verified_exported_repaired_and_sound(tmp_path: Path, capsys):
    store = tmp_path / "buffer"
    damaged_store(store)

    def said(*arguments: str, status: int) -> tuple[str, str]:
        assert main(["buffer", *arguments]) == status
        return capsys.readouterr()

    before, _ = said("verify", str(store), status=1)
    lost = "lost: 10 with ids 51 to 60, measured after 1970-01-01T00:49:00Z and before 1970-01-01T01:00:00Z"
    assert f"{lost}; not delivered yet" in before
    assert "has 1 of 5 frames damaged; 30 records in it readable" in before
    assert "what to do: run `outstation buffer repair`" in before
    assert "records/s)" in before
    exported, told = said("export", str(store), status=1)
    assert len(exported.splitlines()) == 110
    assert "10 readings are in damaged parts of the buffer" in told

    repaired, _ = said("repair", str(store), status=0)
    assert lost in repaired
    assert "repaired: 10 undelivered readings entered in the loss ledger" in repaired
    (kept,) = (store / ".quarantine").iterdir()
    assert f"kept in the quarantine: {kept}" in repaired
    again, _ = said("repair", str(store), status=0)
    assert "it is sound: nothing was changed" in again
    after, _ = said("verify", str(store), status=0)
    assert "110 records in 3 segments" in after
    assert "in the quarantine from earlier: 1 file;" in after
    listed, _ = said("ls", str(store), status=0)
    assert "110 records in 3 segments" in listed
    assert "quarantine: 1 damaged file," in listed
    assert kept.name in listed
    counted, _ = said("stats", str(store), status=0)
    assert "written to the disk since it was made" in counted
    assert "10 records lost" in counted
    assert "readings 51 to 60: 10, damaged" in counted
    assert "device pi, store" in counted
    found = json.loads(said("repair", str(store), "--json", status=0)[0])
    assert (found["found"]["sound"], found["quarantined"], found["entered"]) == (True, [], 0)
    assert json.loads(said("verify", str(store), "--json", status=0)[0])["quarantine"] == [kept.name]


def test_what_is_exported_is_chosen_and_complete_or_not_there(tmp_path: Path, capsys, monkeypatch):
    store = tmp_path / "buffer"
    damaged_store(store)
    assert main(["buffer", "repair", str(store)]) == 0
    capsys.readouterr()
    chosen = ["export", str(store), "--since", "1970-01-01T00:10:00Z", "--until", "1970-01-01T00:20:00+00:00"]
    assert main(["buffer", *chosen]) == 0
    assert [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()] == list(range(11, 21))
    for wrong in ("yesterday", "-5 days", "2026-13-01", ""):
        assert main(["buffer", "export", str(store), f"--since={wrong}"]) == 2
        assert "is no time; write it like" in capsys.readouterr().err
    assert main(["buffer", "export", str(store), "--since", "2 days", "--source", "soil"]) == 0
    assert capsys.readouterr().out == ""

    target = tmp_path / "readings.csv"
    assert main(["buffer", "export", str(store), "--format", "csv", "-o", str(target)]) == 0
    assert len(target.read_text().splitlines()) == 111
    capsys.readouterr()
    whole = target.read_bytes()
    assert main(["buffer", "export", str(store), "-o", str(target)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert target.read_bytes() == whole

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(["buffer", "export", str(store), "-o", str(tmp_path / "other")]) == 1
    assert "No space left" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["buffer", "readings.csv"]


def test_where_there_is_no_buffer_and_what_cannot_be_read(tmp_path: Path, capsys):
    for action in ("ls", "verify", "repair", "export", "stats"):
        assert main(["buffer", action, str(tmp_path)]) == 2
        assert f"there is no buffer in {tmp_path}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["buffer", "ls", "--config", str(tmp_path / "no.toml")]) == 2
    assert "no.toml" in capsys.readouterr().err


def test_somebody_who_may_not_read_it_is_told_so(tmp_path: Path, capsys, monkeypatch):
    def refused(_: object, path: str) -> list[str]:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(SystemFileSystem, "list_directory", refused)
    for action in ("ls", "verify", "repair", "export", "stats"):
        assert main(["buffer", action, str(tmp_path)]) == 2
        assert f"{str(tmp_path)!r}: run this as the user the agent runs as" in capsys.readouterr().err


def test_who_reads_only_the_beginning_is_no_error(tmp_path: Path):
    store = tmp_path / "buffer"
    with BufferDB(store, threaded=False) as db:
        db.insert_json([b'{"source":"s","pad":"%s"}' % (b"x" * 100)] * 5000)
    with subprocess.Popen(
        [*COMMAND, "buffer", "export", str(store)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as export:
        assert export.stdout is not None
        assert export.stderr is not None
        export.stdout.readline()
        export.stdout.close()
        assert export.stderr.read() == b""
    assert export.returncode == 1


@pytest.mark.slow
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_exporting_ten_times_as_much_takes_no_more_memory(tmp_path: Path, form: str):
    peaks = []
    for name, thousands in (("small", 20), ("large", 200)):
        with BufferDB(tmp_path / name) as db:
            for at in range(thousands):
                db.insert_json(
                    [
                        b'{"source":"s%d","t":%d,"values":{"a":%d.5}}' % (n % 7, at * 1000 + n, n)
                        for n in range(1000)
                    ]
                )
                db.flush()
        child = os.posix_spawn(
            COMMAND[0],
            [
                *COMMAND,
                "buffer",
                "export",
                str(tmp_path / name),
                "--format",
                form,
                "-o",
                str(tmp_path / f"{name}.out"),
            ],
            dict(os.environ),
        )
        _, status, used = os.wait4(child, 0)
        assert status == 0
        peaks.append(used.ru_maxrss)
        with (tmp_path / f"{name}.out").open("rb") as written:
            assert sum(1 for _ in written) == thousands * 1000 + (form == "csv")
    assert peaks[1] - peaks[0] < 4_000, f"kB: {peaks}"
