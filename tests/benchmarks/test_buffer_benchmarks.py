"""The buffer's benchmarks run and tell their figures; what they measure is not looked at here."""

import os
import re

import pytest

from benchmarks import (
    buffer_backlog,
    buffer_device,
    buffer_durable,
    buffer_footprint,
    buffer_latency,
    buffer_peers,
    buffer_waiting,
    buffer_workload,
)
from benchmarks.buffer import main
from buffer.encoding import checked


@pytest.fixture(autouse=True)
def _few_rounds(monkeypatch):
    for module in (buffer_durable, buffer_waiting, buffer_peers):
        monkeypatch.setattr(module, "_ROUNDS", 2)
    monkeypatch.setattr(buffer_durable, "_TURNS", 2)
    monkeypatch.setattr(buffer_latency, "_SLICES", 2)


def test_documents_are_what_they_are_said_to_be():
    made = buffer_workload.documents(2000)
    assert {len(document) for document in made} == {buffer_workload.DOCUMENT_BYTES}
    assert len(set(made)) == len(made)
    assert list(checked(made)[0]) == made


def test_durable_tells_a_ratio_for_each_group(tmp_path, capsys):
    buffer_durable.durable(tmp_path, 0.4)
    rows = re.findall(r"^(\d+) +[\d,]+ +[\d,]+ +[\d.]+ times", capsys.readouterr().out, re.MULTILINE)
    assert [int(group) for group in rows] == list(buffer_durable.GROUPS)


def test_waiting_tells_what_both_reach(tmp_path, capsys):
    buffer_waiting.waiting(tmp_path, 0.4)
    said = capsys.readouterr().out
    assert len(re.findall(r"  [\d,]+$", said, re.MULTILINE)) == 4
    assert len(re.findall(r"times \(floor 12", said)) == 2


def test_latency_tells_percentiles_beside_the_disk_alone(tmp_path, capsys):
    buffer_latency.latency(tmp_path, 0.4)
    assert len(re.findall(r" a commit(?: +[\d,]+){4}$", capsys.readouterr().out, re.MULTILINE)) == 8


def test_a_backlog_is_stored_opened_and_taken(tmp_path, capsys):
    buffer_backlog.backlog(tmp_path, 1, million=2000, openings=1)
    said = capsys.readouterr().out
    assert "storing 2,000 readings" in said
    assert "opening 20,000 readings" in said
    assert list(tmp_path.iterdir()) == []


def test_the_slope_is_what_a_line_through_the_figures_rises():
    assert buffer_backlog.slope([2.0] * 20) == 0
    assert buffer_backlog.slope([1 + at / 19 for at in range(20)]) == pytest.approx(100)


def test_peers_are_told_apart_by_what_survives(tmp_path, capsys):
    buffer_peers.peers(tmp_path, 0.2, stored=100)
    said = capsys.readouterr().out
    assert re.search(r"^buffer +yes", said, re.MULTILINE)
    assert re.search(r"^stock TinyDB +no", said, re.MULTILINE)


def test_footprint_tells_time_and_memory(tmp_path, capsys):
    buffer_footprint.footprint(tmp_path, 0, repeats=1)
    assert re.search(r"import buffer +[\d.]+ +[\d.]+", capsys.readouterr().out)


def test_the_part_that_needs_root_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["device", "--directory", str(tmp_path)]) == 1
    assert "run it as root" in capsys.readouterr().err


def test_memory_is_not_taken_for_a_disk(capsys, monkeypatch):
    monkeypatch.setattr(buffer_workload, "mount_of", lambda _: ("tmpfs", "tmpfs", "rw"))
    assert main(["durable"]) == 1
    assert "give --directory" in capsys.readouterr().err


@pytest.mark.slow
def test_bytes_are_counted_on_the_device(tmp_path):
    if os.geteuid():
        with pytest.raises(buffer_device.CannotMountError, match="root"):
            buffer_device.measure(tmp_path, 5)
        return
    runs = buffer_device.measure(tmp_path, 5, rates=(10,))
    found = {run.store: run.found for run in runs}
    assert [each["count"] for each in found.values()] == [50, 50, 50]
    # More than what was stored, less than what syncing each record by itself would take.
    assert all(227 < each["bytes"] < 50_000 for each in found.values())
    assert found["buffer"]["bytes"] < found["sqlite3, WAL, FULL"]["bytes"]
