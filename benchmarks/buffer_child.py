"""Work in a process of its own, so that its memory and CPU time are its own: told as JSON on stdout.

python -m benchmarks.buffer_child TASK ARGUMENTS...
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.processes import ROOT, memory

if TYPE_CHECKING:
    from collections.abc import Callable

_GROUP = 1000


def run(task: str, *arguments: object) -> dict[str, Any]:
    """Do a task in a process of its own; what it found.

    Raises:
        RuntimeError: It failed; the text is what it said.
    """
    command = [sys.executable, "-m", "benchmarks.buffer_child", task, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{task} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _mb() -> float:
    return memory(os.getpid()).resident


def fill(place: str, count: str, ending: str) -> dict[str, Any]:
    """Store readings in groups of a thousand, and tell the CPU time of each twentieth (us a reading).

    That of the thread that stores: the summaries of segments are made on another, when there is time.
    """
    from benchmarks.buffer_workload import Documents
    from buffer import BufferDB

    supply = Documents()
    db = BufferDB(place)
    each = max(_GROUP, int(count) // 20 // _GROUP * _GROUP)
    left = int(count)
    cpu_us = []
    while left > 0:
        begun_s = time.thread_time()
        for _ in range(0, min(left, each), _GROUP):
            db.insert_json(supply.next(min(left, _GROUP)), vouched=True)
            db.flush()
        cpu_us.append((time.thread_time() - begun_s) / min(left, each) * 1e6)
        left -= each
    if ending == "killed":
        print(json.dumps({"cpu_us": cpu_us}), flush=True)
        os._exit(0)
    db.close()
    return {"cpu_us": cpu_us}


def opening(place: str) -> dict[str, Any]:
    """Open a buffer, and tell how long that took (ms) and what it cost in memory (MB)."""
    from buffer import BufferDB

    _forget_cached(place)
    before = _mb()
    begun_s = time.perf_counter()
    db = BufferDB(place)
    opened_ms = (time.perf_counter() - begun_s) * 1000
    found = {"ms": opened_ms, "mb": _mb(), "before_mb": before, "records": db.log("readings").durable_total()}
    db.close()
    return found


def drain(place: str, how: str) -> dict[str, Any]:
    """Take and acknowledge all there is in thousands, and tell the rate and the most memory it took (MB)."""
    from buffer import BufferDB

    db = BufferDB(place)
    consumer = db.consumer(f"benchmark-{how}")
    _forget_cached(place)
    count = size = 0
    begun_s, begun_cpu_s = time.perf_counter(), time.process_time()
    while (batch := consumer.take(_GROUP)) is not None:
        size += len(batch.encoded) if how == "encoded" else len(batch.records[-1].document)
        count += len(batch)
        consumer.ack(batch)
    cpu_s, wall_s = time.process_time() - begun_cpu_s, time.perf_counter() - begun_s
    found = {"rate": count / wall_s, "cpu_us": cpu_s / max(1, count) * 1e6, "count": count, "bytes": size}
    found["peak_mb"] = memory(os.getpid()).peak
    db.close()
    return found


def _forget_cached(place: str) -> None:
    """Take the files out of the page cache, as they are when a device has been off."""
    for path in Path(place).rglob("*.json"):
        handle = os.open(path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)


def peer(place: str, name: str, count: str) -> dict[str, Any]:
    """Store readings in hundreds with one of the libraries; its memory (MB) and the bytes of its files."""
    from benchmarks.buffer_stores import CHOICES
    from benchmarks.buffer_workload import documents

    group = documents(100)
    before = _mb()
    store = next(choice for choice in CHOICES if choice.name == name).make(Path(place))
    opened = _mb()
    for _ in range(0, int(count), len(group)):
        store.put(group)
    peak = memory(os.getpid()).peak
    store.close()
    size = sum(path.stat().st_size for path in Path(place).rglob("*") if path.is_file())
    return {"opened_mb": opened - before, "peak_mb": peak - before, "bytes": size / int(count)}


def produce(place: str, name: str, a_second: str, seconds: str) -> dict[str, Any]:
    """Let readings come at a rate, and have what came made durable once a second; how many were.

    Says so on stdout when the store is open, and begins when it gets a line on stdin.
    """
    from benchmarks.buffer_stores import CHOICES
    from benchmarks.buffer_workload import Documents, written_ahead

    hz = int(a_second)
    supply = Documents()
    store = next(choice for choice in CHOICES if choice.name == name).make(Path(place))
    print("open", flush=True)
    sys.stdin.readline()
    count, begun_s = 0, time.monotonic()
    for second in range(1, int(seconds) + 1):
        group = supply.next(hz)
        time.sleep(max(0.0, begun_s + second - time.monotonic()))
        if time.monotonic() - begun_s > int(seconds) + 1:
            break  # it does not keep up
        store.put(group)
        count += len(group)
    ahead = written_ahead(Path(place))
    store.close()
    return {"count": count, "due": hz * int(seconds), "ahead": ahead}


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "fill": fill,
    "opening": opening,
    "drain": drain,
    "peer": peer,
    "produce": produce,
}

if __name__ == "__main__":
    print(json.dumps(TASKS[sys.argv[1]](*sys.argv[2:])))
