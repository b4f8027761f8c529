"""`outstation clock`: what the running agent knows about time, and how well."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import find_socket
from agent.status.clock import clock_lines
from agent.status.socket import AgentNotRunningError, ask_status

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Print it."""
    socket = find_socket(arguments.config)
    if socket is None:
        return WRONG_CONFIGURATION
    try:
        report = asyncio.run(ask_status(socket))
    except AgentNotRunningError as error:
        print(error, file=sys.stderr)
        return FAILED
    if arguments.json:
        print(report.clock.model_dump_json(indent=2))
    else:
        print("\n".join(clock_lines(report.clock)))
    return DONE
