"""The arguments of the commands with which people find out what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def add_commands(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    config_argument: Callable[[argparse.ArgumentParser], None],
) -> None:
    """`outstation try`."""
    _add_try(commands, config_argument)


def _add_try(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    config_argument: Callable[[argparse.ArgumentParser], None],
) -> None:
    trial = commands.add_parser(
        "try", help="show what each step of the pipelines makes of recorded or stored data; nothing is stored"
    )
    trial.set_defaults(module="trial")  # `try` is no name for a module
    trial.add_argument(
        "file",
        nargs="?",
        type=Path,
        metavar="FILE",
        help="a capture of `record`, or what `buffer export` wrote; - is standard input"
        " (default: what is in the buffer)",
    )
    config_argument(trial)
    trial.add_argument("--source", metavar="ID", help="of this source only; whose port a capture is of")
    trial.add_argument(
        "--since", metavar="TIME", help="of the buffer: measured then or later, or '1 h' ago and later"
    )
    trial.add_argument("--until", metavar="TIME", help="of the buffer: measured before")
    trial.add_argument("--step", metavar="STEP", help="show only this step, by its number or name, but whole")
    trial.add_argument(
        "--limit", "-n", type=int, metavar="N", help="stop after N frames, messages or readings"
    )
    trial.add_argument("--json", action="store_true", help="print a JSON object for each of them")
