"""Loads the configuration for a command, or says what is wrong with it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent.config import ConfigurationError, load_config

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
