"""`outstation status`: asks the running agent over its local socket."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import find_socket
from agent.status.socket import AgentNotRunningError, ask_status
from agent.status.text import lines

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Print the report."""
    socket = find_socket(arguments.config)
    if socket is None:
        return WRONG_CONFIGURATION
    try:
        report = asyncio.run(ask_status(socket))
    except AgentNotRunningError as error:
        print(error, file=sys.stderr)
        return FAILED
    if arguments.json:
        print(report.model_dump_json(indent=2))
    else:
        print("\n".join(lines(report, datetime.now(UTC))))
    return DONE
