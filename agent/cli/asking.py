"""Asking the agent that runs with a configuration file."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from agent.cli.exit_status import FAILED, WRONG_CONFIGURATION
from agent.cli.loading import find_socket
from agent.status.opening import ask_even_while_opening
from agent.status.socket import AgentNotRunningError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.status.report import StatusReport


def ask(path: Path) -> StatusReport | int:
    """What it says; the exit status, after the reason was printed, when it cannot be asked."""
    socket = find_socket(path)
    if socket is None:
        return WRONG_CONFIGURATION
    try:
        return asyncio.run(ask_even_while_opening(socket))
    except AgentNotRunningError as error:
        print(error, file=sys.stderr)
        return FAILED
