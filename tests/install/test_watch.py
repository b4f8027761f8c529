"""How the agent is asked at its socket, and how long a new release is watched."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import itertools
import json
import select
import socket
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.status.clock import ClockStatus
from agent.status.report import BufferStatus, ConfigurationStatus, StatusReport
from agent.status.socket import serve_status
from tests.install.functions import script
from tests.install.test_judge import finding, report, source, upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WATCH = script("watch")


# --- Asking


@contextlib.contextmanager
def answering(path: Path, answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """An agent that answers so."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as knock:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                with listener.accept()[0] as connection, contextlib.suppress(ConnectionError):
                    if ended.is_set():
                        return
                    answer(connection)

        ended = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield str(path)
        finally:
            ended.set()
            knock.connect(str(path))
            thread.join()


def saying(text: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        assert connection.recv(1) == b"", "whoever wants the report says nothing"
        connection.sendall(text)

    return answer


async def test_the_agent_is_asked_as_it_wants_to_be(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    configuration = ConfigurationStatus(path="c.toml", loaded_at=now)
    clock = ClockStatus(
        quality="synced", by="kernel", error_s=None, boot=1, boots=[], boots_known=0, steps=[]
    )
    told = StatusReport(
        version="1",
        device_id="d",
        pid=1,
        started_at=now,
        clock=clock,
        sources=[],
        buffer=BufferStatus(path="b", store_id="s", stored=7),
        upstreams=[],
        configuration=configuration,
    )

    async def tell() -> StatusReport:
        return told

    path = tmp_path / "agent.sock"
    serving = asyncio.create_task(serve_status(path, tell))
    while not path.exists():
        await asyncio.sleep(0.01)
    began_s = time.monotonic()
    asked = await asyncio.to_thread(WATCH.ask, [str(tmp_path / "none.sock"), str(path)])
    assert time.monotonic() - began_s < 0.9, "it does not wait for what is to be said"
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    assert datetime.fromisoformat(asked.pop("at")) >= now
    assert asked == json.loads(told.model_dump_json())


@pytest.mark.parametrize(
    "text",
    [b"", b"no JSON", b'{"version": ', b"[1]", b"null", b"\xff", b"[" * 100_000, b'{"a": "' + b"x" * 2000],
)
def test_garbage_is_no_report(tmp_path: Path, text: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WATCH, "REPORT_BYTES_MAX", 1000 if text.endswith(b"x") else 1 << 20)
    with answering(tmp_path / "s", saying(text)) as path:
        assert WATCH.ask([path]) is None


def test_nobody_there_is_no_report(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "dead"))
    (tmp_path / "file").touch()
    assert WATCH.ask([]) is None
    assert WATCH.ask([str(tmp_path / name) for name in ("none", "dead", "file", "x" * 200, "\0")]) is None


def hang(connection: socket.socket) -> None:
    gone = select.poll()
    gone.register(connection, 0)
    gone.poll(5000)


def dribble(connection: socket.socket) -> None:
    for _ in range(20):
        connection.sendall(b" ")
        time.sleep(0.05)


@pytest.mark.parametrize("answer", [hang, dribble])
def test_one_that_hangs_is_not_waited_for(
    tmp_path: Path, answer: Callable[[socket.socket], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WATCH, "ANSWER_S", 0.2)
    with answering(tmp_path / "s", answer) as path:
        began_s = time.monotonic()
        assert WATCH.ask([path]) is None
        assert time.monotonic() - began_s < 0.9


def test_how_it_does_is_noted_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(WATCH.time, "sleep", waits.append)
    assert WATCH.main(["note", str(tmp_path / "none")]) == 1
    assert len(waits) == WATCH.TRIES - 1, "a busy device may not answer at once"
    assert capsys.readouterr().out == ""
    with answering(tmp_path / "s", saying(b'{\n  "version": "1"\n}\n')) as path:
        assert WATCH.main(["note", f"{tmp_path}/none\n{path}"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert set(json.loads(line)) == {"at", "version"}


# --- Watching


@dataclass
class Machine:
    """A release that is watched, without a machine: time passes only while it is slept."""

    samples_file: Path
    looks: dict[float, Any] = field(default_factory=dict)
    """From which second on the service looks like that."""
    found: dict[str, Any] = field(default_factory=lambda: {"findings": []})
    seconds: float = 0.0
    doctors: list[float] = field(default_factory=list)
    """When the doctor was asked."""

    def watch(self, **more: Any) -> bool:
        machine = self

        class Shown(WATCH.Watched):  # type: ignore[misc, name-defined]
            def look(self) -> Any:
                return next(look for at, look in reversed(machine.looks.items()) if at <= machine.seconds)

            def doctor(self) -> Any:
                machine.doctors.append(machine.seconds)
                return machine.found

        watched = Shown(
            sockets=(),
            releases=Path("/nowhere"),
            after="new",
            before="old",
            did_before=self.samples_file,
            configuration="c.toml",
            ready_s=90.0,
            steady_s=10.0,
            progress_s=180.0,
            restarts_max=2,
        )
        options = {"clock": lambda: self.seconds} | more
        works: bool = WATCH.Watch(watched, self.sleep, **options).does_its_work()
        return works

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    samples = tmp_path / "before"
    samples.write_text("".join(f"{json.dumps(report(n))}\n" for n in (100, 105, 110)))
    return Machine(samples)


def up(stored: int = 120, restarts: int = 0, **changes: Any) -> Any:
    return WATCH.Look(restarts, report(stored, **changes))


def down(restarts: int = 0) -> Any:
    return WATCH.Look(restarts)


def test_one_that_does_its_work_is_kept_as_soon_as_that_is_seen(machine: Machine) -> None:
    machine.looks = {0: down(), 5: up(120), 15: up(130)}
    assert machine.watch()
    assert machine.seconds == 15
    assert machine.doctors == []


def test_one_that_does_not_become_ready_is_left_when_its_time_is_over(machine: Machine) -> None:
    machine.looks = {0: down()}
    assert not machine.watch()
    assert machine.seconds == 90


def test_a_clock_that_is_set_does_not_hurry_a_release(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after every boot of a Pi."""
    hours = itertools.count()
    monkeypatch.setattr(WATCH.time, "time", lambda: next(hours) * 3600.0)
    clock = inspect.signature(WATCH.Watch).parameters["clock"].default
    machine.looks = {0: down(), 5: up(120), 15: up(130)}
    assert machine.watch(clock=clock)


@pytest.mark.parametrize("restarts", [3, 7])
def test_one_that_ends_again_and_again_is_left_at_once(machine: Machine, restarts: int) -> None:
    machine.looks = {0: down(), 7: up(120, restarts)}
    assert not machine.watch()
    assert machine.seconds == 7


def test_one_that_ends_once_is_given_a_chance(machine: Machine) -> None:
    machine.looks = {0: up(120), 4: up(121, 1), 25: up(130, 1)}
    assert machine.watch()
    assert machine.seconds == 25, "steady from 11 on"


def test_one_that_stops_answering_is_not_steady(machine: Machine) -> None:
    machine.looks = {0: up(120), 4: down()}
    assert not machine.watch()
    assert machine.seconds == 90


def test_what_comes_late_is_waited_for(machine: Machine) -> None:
    machine.looks = {0: up(**source(frames=0)), 100: down(), 120: up(130)}
    assert machine.watch()
    assert machine.seconds == 120


def test_what_does_not_come_is_left_when_the_time_is_over(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.looks = {0: up(130, **source(condition="link_down")), 5: up(131, **source(condition="link_down"))}
    assert not machine.watch()
    assert machine.doctors == [190], "the release before is asked before the new one is blamed"
    assert "install.sh: source soil worked before, and now: link down\n" in capsys.readouterr().out


def test_one_that_does_not_answer_any_more_is_left_whatever_an_outage_excuses(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    cut_off = up(130, **upstream(state="failing"))
    machine.looks = {0: up(120, **upstream(state="failing")), 5: cut_off, 100: down()}
    machine.found = {"findings": [finding("network", "cloud")]}
    assert not machine.watch()
    assert machine.doctors == []
    assert "install.sh: it does not answer any more\n" in capsys.readouterr().out
    machine.seconds, machine.looks[195] = 0.0, cut_off
    assert machine.watch(), "it was busy"


def test_one_that_ends_while_it_is_judged_is_left_at_once(machine: Machine) -> None:
    machine.looks = {0: up(120), 30: up(120, 3)}
    assert not machine.watch()
    assert machine.seconds == 30
    assert machine.doctors == []


@pytest.mark.parametrize("text", ["", f"{json.dumps(report(1))}\n" * 2, '{"at"\n\0\0\n{}\n', "1\n2\n3\n"])
def test_where_nothing_is_known_of_the_release_before_nothing_is_asked_for(
    machine: Machine, text: str
) -> None:
    machine.samples_file.write_text(text)
    machine.looks = {0: up(120, sources=[])}
    assert machine.watch()
    machine.samples_file.unlink()
    assert machine.watch()
