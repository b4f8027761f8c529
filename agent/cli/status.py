"""`outstation status`: asks the running agent over its local socket."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.cli.asking import ask
from agent.cli.exit_status import DONE, WRONG_CONFIGURATION
from agent.config import socket_named_in
from agent.status.opening import places
from agent.status.text import lines

if TYPE_CHECKING:
    import argparse
    from pathlib import Path


def main(arguments: argparse.Namespace) -> int:
    """Print the report; or where it can be had."""
    if arguments.where:
        return _say_where(arguments.config)
    report = ask(arguments.config)
    if isinstance(report, int):
        return report
    if arguments.json:
        print(report.model_dump_json(indent=2))
    else:
        print("\n".join(lines(report, datetime.now(UTC))))
    return DONE


def _say_where(config: Path) -> int:
    socket = socket_named_in(config)
    if socket is None:
        print(f"{config} does not tell where the agent listens", file=sys.stderr)
        return WRONG_CONFIGURATION
    print(*places(socket), sep="\n")
    return DONE
