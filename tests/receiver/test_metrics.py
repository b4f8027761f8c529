"""What Prometheus is told."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING

import aiohttp
import pytest

from agent.receiver import exposition
from agent.receiver.exposition import MetricsServer
from agent.receiver.gaps import Missing
from agent.receiver.meter import COMMIT_BUCKETS_S, DEVICES_MAX, Meter
from agent.receiver.service import serve
from tests.receiver.packs import payload
from tests.rigs.programs import until

if TYPE_CHECKING:
    from pathlib import Path

SAMPLE = re.compile(r'[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\.)*"(,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? -?[0-9.e+-]+')


def samples(text: str) -> dict[str, float]:
    """Every line that is no comment, each of the format's own form, none twice."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            continue
        assert SAMPLE.fullmatch(line), line
        name, _, number = line.rpartition(" ")
        assert name not in found
        found[name] = float(number)
    return found


def test_commits_fall_into_buckets():
    meter = Meter()
    for seconds in (0.0005, 0.001, 0.02, 100.0):
        meter.committed(seconds)
    told = samples(meter.text())
    assert told['outstation_receiver_commit_seconds_bucket{le="0.001"}'] == 2
    assert told['outstation_receiver_commit_seconds_bucket{le="0.025"}'] == 3
    assert told['outstation_receiver_commit_seconds_bucket{le="10.0"}'] == 3
    assert told['outstation_receiver_commit_seconds_bucket{le="+Inf"}'] == 4
    assert told["outstation_receiver_commit_seconds_count"] == 4
    assert sum("bucket" in name for name in told) == len(COMMIT_BUCKETS_S) + 1


def test_devices_are_bounded_and_the_worst_are_named():
    meter = Meter()
    meter.missing({f"d{n}": Missing(unexplained=n, never_issued=1) for n in range(3 * DEVICES_MAX)})
    told = samples(meter.text())
    missing = {name: count for name, count in told.items() if "missing" in name}
    assert len(missing) == len(Missing().by_kind()) * (DEVICES_MAX + 1)
    assert missing['outstation_receiver_missing_readings{device="d299",why="unexplained"}'] == 299
    assert missing['outstation_receiver_missing_readings{device="",why="unexplained"}'] == sum(range(200))
    assert missing['outstation_receiver_missing_readings{device="",why="never issued"}'] == 200


def test_a_name_cannot_break_the_format():
    meter = Meter()
    meter.missing({'a"b\\c\nd': Missing(unexplained=1)})
    assert 'outstation_receiver_missing_readings{device="a\\"b\\\\c\\nd",why="dropped"}' in samples(
        meter.text()
    )


async def fetch(url: str, method: str = "GET") -> tuple[int, str]:
    async with aiohttp.ClientSession() as session, session.request(method, url) as answer:
        return answer.status, await answer.text()


async def test_it_is_served_beside_the_receiver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "GAPS_EVERY_S", 0.1)
    monkeypatch.setattr(exposition, "_GAPS_SHARE", 0)
    ready: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        run = serve(
            ["http://127.0.0.1:0"],
            f"sqlite:///{tmp_path / 'r.db'}",
            metrics="127.0.0.1:0",
            on_ready=ready.set_result,
        )
        task = group.create_task(run)
        readings, metrics = await ready
        async with aiohttp.ClientSession() as session:
            for pack in (payload(1, 20), payload(11, 20), payload(50, 5)):
                assert (await session.post(readings, data=pack)).status == 200

        async def told() -> bool:
            return 'device="greenhouse-3",why="unexplained"} 19' in (await fetch(metrics))[1]

        await until(told, "the gap is told")
        said = samples((await fetch(metrics))[1])
        assert said['outstation_receiver_batches_total{result="stored"}'] == 3
        assert said["outstation_receiver_readings_total"] == 35
        assert said["outstation_receiver_duplicates_total"] == 10
        assert said["outstation_receiver_waiting_batches"] == 0
        assert said["outstation_receiver_database_up"] == 1
        assert said["outstation_receiver_commit_seconds_count"] == 3
        assert (await fetch(metrics.replace("metrics", "x")))[0] == 404
        assert (await fetch(metrics, "POST"))[0] == 405
        assert await fetch(metrics, "HEAD") == (200, "")
        task.cancel()


@pytest.mark.parametrize(
    "said", [b"", b"\n", b"x" * 100_000, b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 500]
)
async def test_nonsense_is_dropped(said: bytes, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(exposition, "_REQUEST_TIMEOUT_S", 0.2)
    async with MetricsServer("127.0.0.1", 0, Meter()) as server:
        port = int(server.url.split(":")[2].split("/")[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(said)
        with contextlib.suppress(ConnectionResetError):  # it did not read all of it
            assert await reader.read() == b""
        writer.close()
        assert (await fetch(server.url))[0] == 200


@pytest.mark.parametrize("address", ["9464", ":9464", "localhost:", "localhost:99999", "localhost:x"])
async def test_addresses_that_are_none(tmp_path: Path, address: str):
    with pytest.raises(ValueError, match="HOST:PORT"):
        await serve(["http://127.0.0.1:0"], f"sqlite:///{tmp_path / 'r.db'}", metrics=address)
