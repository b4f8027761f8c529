"""`outstation status`: asks the running agent over its local socket."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from agent.cli.asking import ask
from agent.cli.exit_status import DONE
from agent.status.text import lines

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Print the report."""
    report = ask(arguments.config)
    if isinstance(report, int):
        return report
    if arguments.json:
        print(report.model_dump_json(indent=2))
    else:
        print("\n".join(lines(report, datetime.now(UTC))))
    return DONE
