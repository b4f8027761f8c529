"""The life of the agent: start, run until it is told to stop, drain, end.

Start: the buffer is recovered first, since nothing can be accepted without it; then everything else at once.
Stop (SIGTERM, SIGINT): what the sources have handed over is committed and acknowledged, the sources are
disconnected, what can be delivered is delivered, and the buffer is closed: within five seconds, since
whoever stops the agent may be about to cut the power. What is not delivered by then waits in the buffer.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Any

from agent.composition import Agent
from agent.spine.errors import LogErrorHandler
from agent.spine.spine import open_spine
from buffer import BufferLocked

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from agent.config import AgentConfig

_log = logging.getLogger(__name__)

_SETTLE_S = 1.0
"""For committing and acknowledging what has come in."""
_DISCONNECT_S = 0.8
"""For saying goodbye to the sources."""
_DRAIN_S = 1.8
"""For delivering; what is left waits."""


class StartError(RuntimeError):
    """The agent cannot start, and trying again by itself would not help."""


async def run_agent(config: AgentConfig) -> None:
    """Run until SIGTERM or SIGINT.

    Raises:
        StartError: Another agent uses the buffer.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_spine(close_timeout_s=1.0) as spine:
        spine.errors.add_handler(LogErrorHandler(spine.clock))
        agent = Agent(config, spine)
        if not await _open_buffer(agent, stop):
            return
        try:
            await agent.start()
            _log.info("%s collects from %d sources", agent.device_id, len(config.source))
            await stop.wait()
        finally:
            await _shut_down(agent)


async def _open_buffer(agent: Agent, stop: asyncio.Event) -> bool:
    """Open the buffer, for as long as it takes; False when told to stop before.

    A card that is not there yet, or read-only, is no reason to end: systemd would only start us again.
    """
    while not stop.is_set():
        try:
            await agent.buffer.connect()
        except BufferLocked as error:
            raise StartError(str(error)) from error
        except (ConnectionError, OSError) as error:
            delay_s = await agent.buffer_failed(error)
            try:
                async with asyncio.timeout(delay_s):
                    await stop.wait()
            except TimeoutError:
                continue
        else:
            return True
    return False


async def _shut_down(agent: Agent) -> None:
    _log.info("stopping: committing what has come in")
    await _within(_SETTLE_S, agent.settle())
    await _within(_DISCONNECT_S, agent.disconnect_sources())
    await agent.buffer.flush()
    await _within(_DRAIN_S, agent.drain(_DRAIN_S))
    await agent.stop()
    await agent.buffer.disconnect()
    left = agent.backlog()
    _log.info("stopped; %s", f"{left} readings wait in the buffer" if left else "everything is delivered")


async def _within(timeout_s: float, work: Coroutine[Any, Any, object]) -> None:
    """Do something for so long at most; what is not done by then is safe to leave."""
    try:
        async with asyncio.timeout(timeout_s):
            await work
    except TimeoutError:
        _log.debug("not done within %.1f s: %r", timeout_s, work)
