"""Asking the agent that runs with a configuration file."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from agent.cli.exit_status import FAILED, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.config import socket_named_in
from agent.status.opening import ask_even_while_opening, places
from agent.status.socket import AgentNotRunningError

if TYPE_CHECKING:
    from pathlib import Path

    from agent.status.report import StatusReport


def find_socket(path: Path) -> Path | None:
    """Where the agent that runs with this file can be asked; None after its problems were printed.

    The agent goes on with the last good configuration when the file was spoilt, so it must still be found then. So nothing else in
    the file is looked at while there is a socket where it says.
    """
    socket = socket_named_in(path)
    if socket is not None and any(map(_is_there, places(socket))):
        return socket
    config = load(path)
    return None if config is None else config.socket


def _is_there(place: Path) -> bool:
    try:
        return place.exists()
    except PermissionError:  # another agent's folder
        return False


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
