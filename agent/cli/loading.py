"""Loads the configuration for a command, or says what is wrong with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent.config import ConfigurationError, load_config, socket_named_in

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import AgentConfig


def load(path: Path, *, check_files: bool = False, note_secrets: bool = False) -> AgentConfig | None:
    """The configuration; None after its problems were printed.

    Args:
        path: The file.
        check_files: Whether the secrets and certificates that it names must be there and readable.
        note_secrets: Whether a configuration whose secrets have changed is to be another one.
    """
    # Half of what a command takes to start; whoever only asks the agent goes without.
    from agent.composition import catalogue

    try:
        return load_config(path, catalogue(), check_files=check_files, note_secrets=note_secrets)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return None


def find_socket(path: Path) -> Path | None:
    """Where the agent that runs with this file can be asked; None after its problems were printed.

    The agent goes on with the last good configuration when the file was spoilt, so it must still be found then. So nothing else in
    the file is looked at while there is a socket where it says.
    """
    socket = socket_named_in(path)
    if socket is not None and socket.exists():
        return socket
    config = load(path)
    return None if config is None else config.socket
