"""The buffer opens late, or never: it is told what is waited for, and the start goes on when there is an answer."""

import asyncio

import pytest

from agent import runtime
from agent.service_manager import ServiceManager
from agent.spine.spine import open_spine
from agent.status import opening
from agent.status.socket import AgentNotRunningError


class Manager(ServiceManager):
    """Writes down what it is told."""

    def __init__(self):
        super().__init__("@nobody", None)
        self.told = []

    def _tell(self, assignment):
        self.told.append(assignment)


class Summary:
    def summary(self):
        return "NOT STORING: so far"


class SlowAgent:
    """Its disk answers when a test says so."""

    def __init__(self, error=None):
        self.answer = asyncio.Event()
        self.hung = 0
        self.failed = []
        self.error = error

    async def open_buffer(self):
        await self.answer.wait()
        if self.error is not None:
            error, self.error = self.error, None
            raise error

    async def buffer_hangs(self):
        self.hung += 1

    async def buffer_failed(self, error):
        self.failed.append(error)
        return 0.0

    async def report(self):
        return Summary()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(runtime, "_ANSWERS_S", 0.01)
    monkeypatch.setattr(runtime, "_STOP_OPENING_S", 0.01)


async def begin(agent, stop, manager):
    async with open_spine(close_timeout_s=1) as spine:
        return await runtime._open_buffer(agent, stop, spine, manager)


async def hung_twice(agent):
    async with asyncio.timeout(5):
        while agent.hung < 2:
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("error", [None, ConnectionError("no card")])
async def test_a_disk_that_hangs_is_told_and_taken_to_when_it_answers(error):
    agent, manager = SlowAgent(error), Manager()
    async with asyncio.TaskGroup() as group:
        under_way = group.create_task(begin(agent, asyncio.Event(), manager))
        await hung_twice(agent)
        assert not under_way.done()
        agent.answer.set()
        assert await under_way
    assert agent.failed == ([] if error is None else [error])
    assert "READY=1" in manager.told, "nobody waits for it, and nobody starts it again"
    assert "WATCHDOG=1" in manager.told
    assert manager.told[-1] == "STATUS=NOT STORING: so far"


async def test_it_can_be_stopped_while_the_disk_hangs():
    agent, stop = SlowAgent(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        under_way = group.create_task(begin(agent, stop, Manager()))
        await hung_twice(agent)
        stop.set()
        async with asyncio.timeout(5):
            assert not await under_way


async def test_what_opens_at_once_is_not_said_to_hang():
    agent, manager = SlowAgent(), Manager()
    agent.answer.set()
    assert await begin(agent, asyncio.Event(), manager)
    assert agent.hung == 0
    assert not any(told.startswith(("READY", "STATUS")) for told in manager.told)


async def test_the_status_is_not_asked_on_a_disk_that_may_hang_while_it_is_told_elsewhere(
    tmp_path, monkeypatch
):
    asked = []

    async def answer(path):
        asked.append(path)
        if path.parent == tmp_path / "run":
            return Summary()
        raise AgentNotRunningError("hangs")

    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(opening, "ask_status", answer)
    await opening.ask_even_while_opening(tmp_path / "buffer" / "agent.sock")
    assert [path.parent for path in asked] == [tmp_path / "run"]
