import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.forward import STUCK_S, Forward, Standing
from agent.service_manager import ServiceManager
from agent.service_watch import tell_progress, tell_while_opening


class Listener:
    """systemd's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(0)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(str(tmp_path / "notify"))
    yield listener
    listener.socket.close()


@pytest.fixture
def manager(listener: Listener, tmp_path: Path) -> ServiceManager:
    return ServiceManager.of({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"})


def test_messages_are_as_sd_notify_has_them(listener: Listener, manager: ServiceManager) -> None:
    manager.not_yet(60)
    manager.ready()
    manager.moves()
    manager.says("collecting;\nnothing waits")
    manager.stopping()
    assert listener.heard() == [
        "EXTEND_TIMEOUT_USEC=60000000",
        "READY=1",
        "WATCHDOG=1",
        "STATUS=collecting; nothing waits",
        "STOPPING=1",
    ]
    assert manager.watchdog_s == 30.0


def test_a_socket_in_the_abstract_namespace() -> None:
    name = f"outstation-test-{os.getpid()}"
    listener = Listener(f"\0{name}")
    ServiceManager.of({"NOTIFY_SOCKET": f"@{name}"}).ready()
    assert listener.heard() == ["READY=1"]
    listener.socket.close()


@pytest.mark.parametrize(
    "environment",
    [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}],
    ids=["none", "empty", "of another family"],
)
def test_without_systemd_nothing_is_said(environment: dict[str, str]) -> None:
    manager = ServiceManager.of(environment)
    assert not manager.listens
    manager.ready()


@pytest.mark.parametrize(
    "more",
    [
        {"WATCHDOG_PID": "1", "WATCHDOG_USEC": "1000000"},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {},
    ],
    ids=["of another process", "switched off", "garbage", "none"],
)
def test_no_watchdog(more: dict[str, str], tmp_path: Path) -> None:
    assert ServiceManager.of({"NOTIFY_SOCKET": str(tmp_path), **more}).watchdog_s is None


def test_a_manager_that_is_gone_stops_nobody(tmp_path: Path) -> None:
    ServiceManager(str(tmp_path / "nobody")).ready()


class Way:
    """A way through the device whose standing the test sets."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.standing = Standing(under_way=False, arrived=(0,))
        self.forward = Forward(lambda: self.standing, lambda: self.now_s)

    def after(self, seconds: float, *, under_way: bool, arrived: int, hindered: bool = False) -> float | None:
        self.now_s += seconds
        self.standing = Standing(under_way, (arrived,), hindered)
        return self.forward.stuck_for_s()


def test_nothing_under_way_is_no_standstill() -> None:
    way = Way()
    assert way.after(10 * STUCK_S, under_way=False, arrived=0) is None


def test_what_arrives_is_progress_however_much_waits() -> None:
    way = Way()
    for arrived in range(20):
        assert way.after(STUCK_S - 1, under_way=True, arrived=arrived) is None


def test_what_does_not_arrive_is_stuck_until_something_does() -> None:
    way = Way()
    assert way.after(0, under_way=True, arrived=1) is None
    assert way.after(STUCK_S - 1, under_way=True, arrived=1) is None
    assert way.after(1, under_way=True, arrived=1) == STUCK_S
    assert way.after(10, under_way=True, arrived=1) == STUCK_S + 10
    assert way.after(1, under_way=True, arrived=2) is None
    assert way.after(STUCK_S - 1, under_way=True, arrived=2) is None


def test_a_disk_that_refuses_is_no_reason_to_start_again() -> None:
    way = Way()
    assert way.after(0, under_way=True, arrived=1) is None
    assert way.after(9 * STUCK_S, under_way=True, arrived=1, hindered=True) is None
    assert way.after(STUCK_S - 1, under_way=True, arrived=1) is None, "counted from when the disk came back"


async def test_the_watchdog_is_fed_by_progress_only(
    listener: Listener, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    way = Way()
    way.standing = Standing(under_way=True, arrived=(1,))
    manager = ServiceManager(str(tmp_path / "notify"), watchdog_s=0.003)
    looks = 0

    async def summary() -> str:
        nonlocal looks
        looks += 1
        return f"look {looks}"

    async with asyncio.TaskGroup() as group:
        telling = group.create_task(tell_progress(manager, way.forward, summary))
        heard: list[str] = []
        while "STATUS=look 3" not in heard:
            heard += listener.heard()
            await asyncio.sleep(0.001)
        assert heard[:2] == ["WATCHDOG=1", "STATUS=look 1"]
        way.now_s += STUCK_S
        listener.heard()
        seen = looks
        heard = []
        while looks < seen + 5:
            await asyncio.sleep(0.001)
            heard += listener.heard()
        assert "WATCHDOG=1" not in heard[2:], "one may have been under way"
        assert any("STATUS=" in line for line in heard)
        telling.cancel()
    assert caplog.text.count("nothing that came in has become durable for 120 s") == 1


async def test_a_status_that_is_not_to_be_had_is_waited_for_and_starves_nobody(
    listener: Listener, tmp_path: Path
) -> None:
    manager = ServiceManager(str(tmp_path / "notify"), watchdog_s=0.003)
    disk = asyncio.Event()
    asked = 0

    async def summary() -> str:
        nonlocal asked
        asked += 1
        await disk.wait()
        return "all is well"

    async with asyncio.TaskGroup() as group:
        telling = group.create_task(tell_progress(manager, Way().forward, summary))
        heard: list[str] = []
        async with asyncio.timeout(10):
            while heard.count("WATCHDOG=1") < 5:
                heard += listener.heard()
                await asyncio.sleep(0.001)
            assert asked == 1, "a thread for each would be in use"
            assert "STATUS=no status: the disk may hang" in heard
            disk.set()
            while "STATUS=all is well" not in heard:
                heard += listener.heard()
                await asyncio.sleep(0.001)
        telling.cancel()


async def test_while_the_buffer_opens_time_is_asked_for(listener: Listener, manager: ServiceManager) -> None:
    async with asyncio.TaskGroup() as group:
        telling = group.create_task(tell_while_opening(manager))
        heard: list[str] = []
        while len(heard) < 2:
            heard += listener.heard()
            await asyncio.sleep(0.001)
        telling.cancel()
    assert heard == ["EXTEND_TIMEOUT_USEC=60000000", "WATCHDOG=1"]


def test_programs_that_the_agent_starts_do_not_talk_to_its_manager() -> None:
    environment = {
        "NOTIFY_SOCKET": "/run/notify",
        "WATCHDOG_USEC": "1000",
        "WATCHDOG_PID": str(os.getpid()),
        "PATH": "/bin",
    }
    assert ServiceManager.of(environment).watchdog_s == 0.001
    assert environment == {"PATH": "/bin"}
