"""The demo's course of events, and the proof at its end.

Two serial sensors on pseudo-terminals and a simulated source feed the real agent, which delivers to the
real receiver over a link. The link is cut for ten seconds, and in the middle of that the agent is killed
with SIGKILL and started again. When the backlog has drained, the receiver's database is held against what
the device accepted.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from bisect import bisect_right
from collections import deque
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from agent.demo.link import Link
from agent.demo.programs import AGENT_CONFIG, Program
from agent.demo.sensors import PtySensor
from agent.demo.verdict import Verdict, judge, received
from agent.demo.view import Scene
from agent.status.socket import AgentNotRunningError, ask_status
from buffer import BufferDB

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
    from pathlib import Path

    from agent.demo.verdict import Key
    from agent.demo.view import View

_SERIAL_HZ, _SIMULATED_HZ = 80.0, 40.0
_TICK_S = 0.25
_RATE_LOOKS = 17
"""Four seconds' worth."""
_START_TIMEOUT_S = 20.0
_DRAIN_TIMEOUT_S = 20.0
_LAST_LINES_S = 1.0
"""What the sensors said last is in the buffer after this time."""


@dataclass(frozen=True, slots=True)
class Times:
    """When what happens, in seconds from the first reading."""

    cut_s: float = 6.0
    kill_s: float = 10.0
    restart_s: float = 11.5
    restore_s: float = 16.0
    end_s: float = 24.0


class DemoError(RuntimeError):
    """The demo could not be run; says why."""


class Story:
    """One run of the demo in one folder."""

    def __init__(self, folder: Path, view: View, times: Times | None = None) -> None:
        self._folder = folder
        self._view = view
        self._times = times or Times()
        self._scene = Scene(total_s=self._times.end_s)
        self._database = folder / "cloud.sqlite"
        self._buffer = folder / "buffer"
        self._sensors = [PtySensor("greenhouse", _SERIAL_HZ, seed=1), PtySensor("cellar", _SERIAL_HZ, seed=2)]
        self._started_s = 0.0
        self._looks: deque[tuple[float, int]] = deque(maxlen=_RATE_LOOKS)

    async def run(self) -> Verdict:
        """Run it; the verdict.

        Raises:
            DemoError: A program did not start, or the backlog did not drain.
        """
        async with AsyncExitStack() as stack:
            for sensor in self._sensors:
                stack.enter_context(sensor)
            receiver_port = await _free_port()
            link = await stack.enter_async_context(Link(receiver_port))
            receiver, agent = self._programs(receiver_port, link.port)
            stack.push_async_callback(receiver.stop)
            stack.push_async_callback(agent.stop)
            speaking = await stack.enter_async_context(_background([sensor.run for sensor in self._sensors]))
            await receiver.start()
            await self._wait_for_receiver(receiver, receiver_port)
            await self._start_agent(agent)
            await self._tell_story(agent, link)
            for task in speaking:
                task.cancel()
            await self._drain(agent)
            await agent.stop()
            await receiver.stop()
        return await asyncio.to_thread(self._judge)

    def _programs(self, receiver_port: int, link_port: int) -> tuple[Program, Program]:
        receiver = Program(
            [
                "receive",
                "--from",
                f"http://127.0.0.1:{receiver_port}",
                "--into",
                f"sqlite:///{self._database}",
            ],
            self._folder / "receiver.log",
        )
        config = self._folder / "demo.toml"
        ports = [sensor.port for sensor in self._sensors]
        config.write_text(AGENT_CONFIG.format(ports=ports, link_port=link_port, rate=_SIMULATED_HZ))
        return receiver, Program(["run", "--config", str(config)], self._folder / "agent.log")

    async def _start_agent(self, agent: Program) -> None:
        await agent.start()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_TIMEOUT_S
        while loop.time() < deadline:
            await self._look(agent)
            if self._scene.accepted:
                self._started_s = loop.time()
                return
            if not agent.running:
                break
            await asyncio.sleep(_TICK_S)
        raise DemoError(f"the agent did not start:\n{agent.last_words()}")

    async def _wait_for_receiver(self, receiver: Program, port: int) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _START_TIMEOUT_S
        while loop.time() < deadline and receiver.running:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(_TICK_S)
            else:
                writer.close()
                return
        raise DemoError(f"the receiver did not start:\n{receiver.last_words()}")

    async def _tell_story(self, agent: Program, link: Link) -> None:
        times = self._times
        acts: list[tuple[float, str, Callable[[], Coroutine[Any, Any, None]]]] = [
            (times.cut_s, "the link to the cloud is cut", link.cut),
            (times.kill_s, "the agent is killed (SIGKILL), like a power cut", agent.kill),
            (times.restart_s, "the agent is started again", agent.start),
            (times.restore_s, "the link is back: the backlog drains", link.restore),
        ]
        self._view.event(self._scene, "collecting from two serial ports and a simulated source")
        loop = asyncio.get_running_loop()
        while (elapsed_s := loop.time() - self._started_s) < times.end_s:
            self._scene.elapsed_s = elapsed_s
            while acts and elapsed_s >= acts[0][0]:
                _, text, act = acts.pop(0)
                self._view.event(self._scene, text)
                await act()
            self._scene.link_up = link.up
            await self._look(agent)
            self._view.show(self._scene)
            await asyncio.sleep(_TICK_S)
        self._view.event(self._scene, "the sensors fall silent; what is left is delivered")

    async def _look(self, agent: Program) -> None:
        """Bring the scene up to date from the agent's status and the receiver's database."""
        scene = self._scene
        scene.delivered = await asyncio.to_thread(_rows, self._database)
        if not agent.running:
            self._looks.clear()
            scene.agent, scene.rate = "dead", 0.0
            return
        try:
            report = await ask_status(self._buffer / "agent.sock")
        except AgentNotRunningError:
            scene.agent = "starting"
            return
        scene.agent = "running"
        scene.accepted = report.buffer.stored
        # Readings become durable a commit window at a time, so the rate is one over several of them.
        self._looks.append((asyncio.get_running_loop().time(), scene.accepted))
        (then_s, then), (now_s, now) = self._looks[0], self._looks[-1]
        scene.rate = (now - then) / (now_s - then_s) if now_s > then_s else 0.0
        scene.backlog = sum(upstream.backlog for upstream in report.upstreams)
        scene.backlogs.append(scene.backlog)

    async def _drain(self, agent: Program) -> None:
        """Wait until everything that was accepted when the sensors fell silent has arrived."""
        loop = asyncio.get_running_loop()
        silent_s = loop.time()
        target: int | None = None
        while loop.time() < silent_s + _DRAIN_TIMEOUT_S and agent.running:
            self._scene.elapsed_s = loop.time() - self._started_s
            await self._look(agent)
            self._view.show(self._scene)
            if target is None and loop.time() > silent_s + _LAST_LINES_S:
                target = self._scene.accepted
            if target is not None and self._scene.delivered >= target:
                return
            await asyncio.sleep(_TICK_S)
        raise DemoError(f"the backlog did not drain:\n{agent.last_words()}")

    def _judge(self) -> Verdict:
        with BufferDB(self._buffer) as buffer:
            return judge(accepted(buffer), received(self._database))


def accepted(buffer: BufferDB) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Key and document of every reading in a device's buffer."""
    epochs = buffer.epochs
    for document in buffer.table("readings"):
        seq = document.doc_id
        epoch = epochs[bisect_right(epochs, seq, key=attrgetter("first_seq")) - 1]
        yield (epoch.device_id, epoch.store_id, seq), dict(document)


def _rows(database: Path) -> int:
    """How many readings the receiver holds; 0 before it has made its table."""
    with (
        contextlib.suppress(sqlite3.OperationalError),
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection,
    ):
        row = connection.execute("SELECT count(*) FROM readings").fetchone()
        return int(row[0])
    return 0


async def _free_port() -> int:
    """A port of loopback that nobody listens on."""
    server = await asyncio.start_server(lambda _r, _w: None, "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


@contextlib.asynccontextmanager
async def _background(
    runs: list[Callable[[], Coroutine[Any, Any, None]]],
) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Runs coroutines until the block ends. The block's own error leaves as it is, in no group."""
    failure: Exception | None = None
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(), name=f"demo-sensor-{place}") for place, run in enumerate(runs)]
        try:
            yield tasks
        except Exception as error:  # noqa: BLE001 (raised again below, outside of the group)
            failure = error
        finally:
            for task in tasks:
                task.cancel()
    if failure is not None:
        raise failure
