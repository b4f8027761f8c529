import asyncio
import errno
import socket
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.status.report import BufferStatus, SourceStatus, StatusReport, UpstreamStatus
from agent.status.socket import AgentNotRunningError, ask_status, serve_status
from agent.status.text import ago, lines, size

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def report(**changes) -> StatusReport:
    fields = {
        "version": "0.1.0",
        "device_id": "pi",
        "pid": 1,
        "started_at": NOW - timedelta(hours=3),
        "configuration": {"loaded_at": "2026-11-26T00:00:00Z"},
        "clock": {
            "quality": "synced",
            "by": "kernel",
            "error_s": 0.01,
            "boot": 2,
            "boots": [],
            "boots_known": 2,
            "steps": [],
        },
        "sources": [SourceStatus(source_id="soil", driver="serial", state="connected", frames=12)],
        "buffer": BufferStatus(path="/b", store_id="s", stored=12, usage_bytes=3456),
        "upstreams": [UpstreamStatus(name="cloud", driver="mqtt", state="connected", delivered=12)],
    }
    return StatusReport(**(fields | changes))


def test_all_well():
    assert report().summary() == "everything is delivered"


def test_what_will_never_be_delivered_is_not_passed_over():
    aside = UpstreamStatus(name="cloud", driver="mqtt", state="connected", delivered=12, set_aside=2)
    lossy = BufferStatus(path="/b", store_id="s", lost={"damaged": 399})
    assert report(upstreams=[aside], buffer=lossy).summary() == (
        "everything is delivered, apart from 399 lost (damaged) and 2 set aside as dead letters (cloud)"
    )


def test_what_is_not_delivered_is_said_with_its_reason():
    held = UpstreamStatus(
        name="cloud", driver="mqtt", state="failing", backlog=7, holding_back="link down: refused"
    )
    text = report(upstreams=[held]).summary()
    assert text == "cloud: 7 readings not delivered, link down: refused"


def test_a_silent_source_and_a_disk_fault_are_said():
    source = source_status("soil", state="failing", condition="link_down", last_error="no such port")
    text = report(sources=[source], buffer=BufferStatus(path="/b", store_id="s", fault="disk full")).summary()
    assert text == "buffer: disk full; source soil: link down: no such port"


def test_many_silent_sources_stay_one_line():
    sources = [source_status(f"s{n}", condition="silent") for n in range(100)]
    text = report(sources=sources).summary()
    said = "silent: nothing comes, though the link is up"
    assert text == f"source s0: {said}; source s1: {said}; source s2: {said}; and 97 more"


def source_status(source_id, **changes):
    return SourceStatus(**{"source_id": source_id, "driver": "mqtt", "state": "connected"} | changes)


@pytest.mark.parametrize(
    ("changes", "state", "words"),
    [
        (
            {"state": "failing", "condition": "link_down", "last_error": "refused"},
            "link down",
            "link down: refused",
        ),
        ({"condition": "silent"}, "silent", "nothing comes, though the link is up"),
        ({"condition": "garbage", "garbage": "not JSON"}, "garbage", "nothing but garbage: not JSON"),
        (
            {"silent_sensors": ["a/b", "a/c"], "silent_sensors_count": 30},
            "connected",
            "30 silent sensors: a/b, a/c and 28 more",
        ),
        ({"remarks": ["the broker refuses x"]}, "connected", "the broker refuses x"),
    ],
)
def test_link_down_silent_and_garbage_are_three_things(changes, state, words):
    told = report(sources=[source_status("hall", **changes)])
    assert words in told.summary()
    text = "\n".join(lines(told, NOW))
    assert f" {state} " in text
    assert text.count(words) == 2, "in the first line, and with its source"


def test_without_an_upstream_that_is_said():
    assert "no upstream is configured" in report(upstreams=[]).summary()


def test_lines_name_everything():
    text = "\n".join(lines(report(), NOW))
    for part in ("pi", "3 h ago", "soil", "12 frames", "cloud", "12 delivered", "3.5 kB"):
        assert part in text


def test_what_was_not_kept_or_not_delivered_is_told_even_when_all_is_connected():
    source = SourceStatus(
        source_id="soil",
        driver="serial",
        state="connected",
        failures=3,
        last_error="cannot be taken",
        troubles={"wrong_crc": 7, "busy": 1},
    )
    cloud = UpstreamStatus(
        name="cloud", driver="http", state="connected", set_aside=100, last_error="400 Bad Request"
    )
    text = "\n".join(lines(report(sources=[source], upstreams=[cloud]), NOW))
    for part in (
        "3 failures",
        "error: cannot be taken",
        "since the start: busy 1, wrong_crc 7",
        "100 set aside",
        "error: 400 Bad Request",
    ):
        assert part in text


def test_the_age_of_what_waits_is_told():
    waiting = UpstreamStatus(
        name="cloud", driver="mqtt", state="retrying", backlog=9, oldest=NOW - timedelta(hours=3)
    )
    assert "9 waiting (oldest measured 3 h ago)" in "\n".join(lines(report(upstreams=[waiting]), NOW))


def test_times_and_sizes():
    assert [ago(NOW - timedelta(seconds=s), NOW) for s in (5, 300, 9000, 999999)] == [
        "5 s ago",
        "5 min ago",
        "2 h ago",
        "11 days ago",
    ]
    assert ago(None, NOW) == "never"
    assert [size(n) for n in (999, 1000, 2_500_000, 4 * 10**9)] == ["999 B", "1.0 kB", "2.5 MB", "4.0 GB"]


async def wait_for(path: Path) -> None:
    while _mode(path) != 0o660:
        await asyncio.sleep(0.001)


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:  # a dead agent's socket is removed just now
        return None


async def test_the_socket_answers_everybody_and_goes_away(tmp_path):
    path = tmp_path / "agent.sock"
    left_behind = socket.socket(socket.AF_UNIX)
    left_behind.bind(str(path))
    left_behind.close()

    async def answer() -> StatusReport:
        return report()

    serving = asyncio.create_task(serve_status(path, answer))
    await wait_for(path)
    answers = await asyncio.gather(*(ask_status(path) for _ in range(20)))
    assert answers == [report()] * 20
    serving.cancel()
    await asyncio.wait({serving})
    assert not path.exists()
    with pytest.raises(AgentNotRunningError, match="is `outstation run` running"):
        await ask_status(path)


async def test_a_file_in_the_socket_s_place_stays(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("do not delete me")
    with pytest.raises(FileExistsError, match=r"is no socket; name another place as agent\.socket"):
        await serve_status(precious, report)
    assert precious.read_text() == "do not delete me"


async def test_the_socket_of_another_agent_that_lives_is_not_taken(tmp_path):
    path = tmp_path / "agent.sock"

    async def answer() -> StatusReport:
        return report(device_id="first")

    serving = asyncio.create_task(serve_status(path, answer))
    await wait_for(path)
    with pytest.raises(FileExistsError, match="another agent listens on"):
        await serve_status(path, report)
    assert (await ask_status(path)).device_id == "first"
    serving.cancel()
    await asyncio.wait({serving})


async def test_a_path_too_long_for_a_socket_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"agent\.socket"):
        await serve_status(tmp_path / ("x" * 120), report)


def test_how_long_room_and_card_last():
    buffer = BufferStatus(
        path="/b", store_id="s", bound_bytes=10**9, undelivered_bytes=10**8, bytes_per_s=1000.0
    )
    assert "room for" not in "\n".join(lines(report(buffer=buffer), NOW))
    buffer = buffer.model_copy(
        update={"left_s": 12 * 86400.0, "written_bytes_per_day": 2e8, "card_life_years": 41.0}
    )
    text = "\n".join(lines(report(buffer=buffer), NOW))
    assert "room for 12 days at this rate (86.4 MB a day, 100.0 MB of 1.0 GB not delivered)" in text
    assert "200.0 MB a day written to the card: a new card lasts 41 years" in text


async def test_who_may_not_ask_is_told_so_and_not_that_nobody_runs(tmp_path, monkeypatch):
    async def forbidden(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(asyncio, "open_unix_connection", forbidden)
    with pytest.raises(AgentNotRunningError, match=r"this user may not ask the agent on .*: use sudo"):
        await ask_status(tmp_path / "agent.sock")
    monkeypatch.undo()
    with pytest.raises(AgentNotRunningError, match=r"no agent answers on .* \(No such file or directory\)"):
        await ask_status(tmp_path / "agent.sock")
