"""`outstation clock`: what the running agent knows about time, and how well."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.composition import socket_path
from agent.status.clock import clock_lines
from agent.status.socket import AgentNotRunningError, ask_status

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Print it."""
    config = load(arguments.config)
    if config is None:
        return WRONG_CONFIGURATION
    try:
        report = asyncio.run(ask_status(socket_path(config)))
    except AgentNotRunningError as error:
        print(error, file=sys.stderr)
        return FAILED
    if arguments.json:
        print(report.clock.model_dump_json(indent=2))
    else:
        print("\n".join(clock_lines(report.clock)))
    return DONE
