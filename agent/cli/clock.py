"""`outstation clock`: what the running agent knows about time, and how well."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.cli.asking import ask
from agent.cli.exit_status import DONE
from agent.status.clock import clock_lines

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Print it."""
    report = ask(arguments.config)
    if isinstance(report, int):
        return report
    if arguments.json:
        print(report.clock.model_dump_json(indent=2))
    else:
        print("\n".join(clock_lines(report.clock)))
    return DONE
