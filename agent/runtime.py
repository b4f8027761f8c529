"""The life of the agent: start, run until it is told to stop, drain, end.

Start: the buffer is recovered first, since nothing can be accepted without it; then everything else at once.
Stop (SIGTERM, SIGINT, or the terminal goes away): what the sources have handed over is committed and acknowledged, the sources are
disconnected, what can be delivered is delivered, and the buffer is closed: within five seconds, since
whoever stops the agent may be about to cut the power. What is not delivered by then waits in the buffer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

from agent.composition import Agent
from agent.forward import Forward
from agent.memory import spare_what_is_loaded
from agent.service_manager import ServiceManager
from agent.service_watch import tell_progress, tell_while_opening
from agent.spine.errors import COLLECTION, STORAGE, LogErrorHandler
from agent.spine.spine import open_spine
from agent.status.text import counted
from agent.supervisor import supervise
from agent.terminal import Terminal
from buffer import BufferLocked, StoreError, UnknownFormat, clear_abandoned_copies

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from pathlib import Path

    from agent.config import AgentConfig
    from agent.last_resort import LastResort
    from agent.spine.spine import Spine

_log = logging.getLogger(__name__)

# When all of it hangs, these, 0.4 s for tasks that do not end (`Agent.stop`), thrice `_CLOSE_SPINE_S` and half a
# second for stuck threads (`agent.cli.run`) make 4.8 s: below five.
_SETTLE_S = 0.8
"""For committing and acknowledging what has come in."""
_DISCONNECT_S = 0.6
"""For saying goodbye to the sources."""
_FLUSH_S = 0.4
"""For committing what came in meanwhile."""
_DRAIN_S = 1.2
"""For delivering; what is left waits."""
_CLOSE_S = 0.6
"""For closing the buffer."""
_CLOSE_SPINE_S = 0.1
"""For what still runs when all else has ended: tasks, what handlers of events have left to do, and these themselves."""
_ANSWERS_S = 10.0
"""A disk that has not let the buffer open by then hangs, or much is to be repaired on it: that is said, and again as often."""
_STOP_OPENING_S = 2.0
"""For opening what is being opened, when told to stop meanwhile."""
_LAST_RESORT_S = 4.8
"""From the signal on. For what none of the limits above reaches: a task that does not end, a disk that does not open."""


class StartError(RuntimeError):
    """The agent cannot start, and trying again by itself would not help."""


async def run_agent(
    config: AgentConfig,
    last_resort: LastResort,
    load: Callable[[], AgentConfig],
    path: Path,
    *,
    log_level_given: bool = False,
) -> None:
    """Run until SIGTERM, SIGINT or, when the terminal that it was started from has gone, SIGHUP.

    Any other SIGHUP lets it read its configuration again.

    Args:
        config: What to run.
        last_resort: Armed by the first signal.
        load: Reads the configuration again.
        path: Its file.
        log_level_given: Whether the log level was given on the command line, which then counts.

    Raises:
        StartError: Another agent uses the buffer.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told_to_stop() -> None:
        if not stop.is_set():
            last_resort.arm(_LAST_RESORT_S)
            stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            loop.add_signal_handler(number, told_to_stop)
    async with open_spine(close_timeout_s=_CLOSE_SPINE_S) as spine:
        spine.errors.add_handler(LogErrorHandler(spine.clock))
        make = partial(Agent, config, spine, load, path, log_level_given=log_level_given)
        agent = await asyncio.to_thread(make)  # asks the machine who it is
        _at_hang_up(loop, told_to_stop, agent.reload.request)
        manager = ServiceManager.of(os.environ)
        last_resort.buffer_closed = False
        if not await _open_buffer(agent, stop, spine, manager):
            last_resort.buffer_closed = not agent.buffer_is_opening
            await _within(_DISCONNECT_S, "disconnect the sources", agent.disconnect_sources())
            return
        try:
            await agent.start()
            spare_what_is_loaded()
            if manager.listens:
                _tell(manager, agent, spine)
            clearing = asyncio.to_thread(_clear_abandoned_copies, config.buffer.path)
            spine.start("clear", clearing, layer=STORAGE, subject="copies of the buffer, abandoned")
            _log.info("%s collects from %s", agent.device_id, counted(len(config.source), "source"))
            await stop.wait()
        finally:
            manager.stopping()
            last_resort.buffer_closed = await _shut_down(agent)


def _clear_abandoned_copies(path: Path) -> None:
    try:
        clear_abandoned_copies(path)
    except OSError as error:
        # Of a disk that cannot be read; the buffer says what there is to say of that.
        _log.debug("abandoned copies of the buffer in %s were not looked for: %s", path.parent, error)


def _tell(manager: ServiceManager, agent: Agent, spine: Spine) -> None:
    """Keep the service manager told from here on."""
    forward = Forward(agent.standing, spine.clock.monotonic_s)

    async def summary() -> str:
        return (await agent.report()).summary()

    async def keep_telling() -> None:
        await tell_progress(manager, forward, summary)

    supervise(spine, "tell", "service manager", keep_telling, layer=COLLECTION)
    manager.ready()


def _at_hang_up(
    loop: asyncio.AbstractEventLoop, told_to_stop: Callable[[], None], reload: Callable[[], None]
) -> None:
    """Stop when the terminal has gone, unless that is to be ignored (nohup); else read the configuration again."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return
    terminal = Terminal()
    loop.add_signal_handler(signal.SIGHUP, lambda: told_to_stop() if terminal.has_gone else reload())


async def _open_buffer(agent: Agent, stop: asyncio.Event, spine: Spine, manager: ServiceManager) -> bool:
    """Open the buffer, for as long as it takes; False when told to stop before.

    A card that is not there yet, or read-only, is no reason to end: systemd would only start us again. So it is told that
    we are ready, and what for.
    """
    telling = None
    if manager.listens:
        _, telling = spine.start(
            "tell", tell_while_opening(manager), layer=STORAGE, subject="service manager, opening"
        )
    try:
        return await _opened(agent, stop, manager)
    finally:
        if telling is not None:
            telling.cancel()


async def _opened(agent: Agent, stop: asyncio.Event, manager: ServiceManager) -> bool:
    async def tell() -> None:
        manager.ready()
        manager.says((await agent.report()).summary())

    while not stop.is_set():
        try:
            return await _open_once(agent, stop, tell)
        except (BufferLocked, UnknownFormat) as error:
            raise StartError(str(error)) from error
        except (ConnectionError, OSError) as error:
            delay_s = await agent.buffer_failed(error)
            await tell()
            try:
                async with asyncio.timeout(delay_s):
                    await stop.wait()
            except TimeoutError:
                continue
    return False


async def _open_once(agent: Agent, stop: asyncio.Event, tell: Callable[[], Awaitable[None]]) -> bool:
    """Try to open the buffer; False when told to stop before it is open.

    A card may never answer, and a thread that waits for it cannot be ended. So it is told what is waited for, whoever speaks
    only once is heard, and it goes on waiting.

    Raises:
        ConnectionError: It does not open.
        OSError: Likewise.
    """

    async def open_it() -> Exception | None:
        try:
            await agent.open_buffer()
        except (ConnectionError, OSError) as error:
            return error
        return None

    async with asyncio.TaskGroup() as group:
        opening = group.create_task(open_it(), name="open:buffer")
        stopping = group.create_task(stop.wait(), name="open:told to stop")
        while not opening.done() and not stop.is_set():
            await asyncio.wait((opening, stopping), timeout=_ANSWERS_S, return_when=asyncio.FIRST_COMPLETED)
            if not opening.done() and not stop.is_set():
                await agent.buffer_hangs()
                await tell()
        await asyncio.wait((opening,), timeout=_STOP_OPENING_S)
        stopping.cancel()
        if not opening.done():
            opening.cancel()
            return False
    if (error := opening.result()) is not None:
        raise error
    return True


async def _shut_down(agent: Agent) -> bool:
    """Commit, acknowledge, deliver; whether the buffer is closed."""
    _log.info("stopping: committing what has come in")
    await _within(_SETTLE_S, "commit and acknowledge", agent.settle())
    await _within(_DISCONNECT_S, "disconnect the sources", agent.disconnect_sources())
    await _within(_FLUSH_S, "commit the rest", agent.commit())
    await _within(_DRAIN_S, "deliver", agent.drain(_DRAIN_S))
    await agent.stop()
    left = agent.backlog()
    closed = await _within(_CLOSE_S, "close the buffer", agent.buffer.disconnect())
    _log.info("stopped; %s", _told(left))
    return closed


def _told(left: int | None) -> str:
    if left is None:
        return "no upstream has begun: the readings are in the buffer"
    return (
        f"{counted(left, 'reading')} not delivered yet: kept in the buffer"
        if left
        else "everything is delivered"
    )


async def _within(timeout_s: float, what: str, work: Coroutine[Any, Any, object]) -> bool:
    """Do something for so long at most; what is not done by then is safe to leave, and said. Whether it is done."""
    try:
        async with asyncio.timeout(timeout_s):
            await work
            return True
    except TimeoutError:
        _log.warning("stopping: could not %s within %.1f s", what, timeout_s)
    except (StoreError, OSError) as error:
        _log.warning("stopping: could not %s: %s", what, error)
    return False
