"""`outstation run`: the agent itself."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from agent import logs
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.composition import catalogue
from agent.config import load_config
from agent.event_loop import EventLoop
from agent.last_resort import LastResort
from agent.memory import hold_little
from agent.runtime import StartError, run_agent

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from agent.config import AgentConfig

_STUCK_THREAD_S = 0.5
_SWITCH_INTERVAL_S = 0.001
"""How long a thread keeps Python's lock from another. Reading and packing a batch take it a dozen times, and with
Python's 5 ms each time, delivery falls behind while readings come in at full speed."""


def main(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT, or until the terminal has gone."""
    hold_little()
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    config = load(arguments.config, note_secrets=True)
    if config is None:
        return WRONG_CONFIGURATION
    logs.configure(arguments.log_level or config.agent.log_level)
    try:
        with asyncio.Runner(loop_factory=EventLoop) as runner:
            runner.run(_run(config, arguments))
    except StartError as error:
        print(error, file=sys.stderr)
        return FAILED
    return DONE


async def _run(config: AgentConfig, arguments: argparse.Namespace) -> None:
    last_resort = LastResort()
    path: Path = arguments.config
    # A start goes without a secret that is not there, since the rest can run; a change is refused, since all does.
    await run_agent(
        config,
        last_resort,
        lambda: load_config(path, catalogue(), check_files=True, note_secrets=True),
        path,
        log_level_given=arguments.log_level is not None,
    )
    # The buffer is closed; what may be left is a thread stuck in a driver's close(), which asyncio would
    # wait for without end. Nobody needs it any more.
    last_resort.arm(_STUCK_THREAD_S)
