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
    """`outstation try`, `dead-letters`, `doctor` and `support-bundle`."""
    _add_try(commands, config_argument)
    _add_dead_letters(commands, config_argument)
    doctor = commands.add_parser(
        "doctor", help="look at everything that the agent needs, and say what to do about what is wrong"
    )
    config_argument(doctor)
    doctor.add_argument("--deep", action="store_true", help="check every byte of the buffer, too")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    bundle = commands.add_parser(
        "support-bundle", help="gather what others need to see to help, without secrets and readings"
    )
    bundle.set_defaults(module="support_bundle")
    bundle.add_argument(
        "file", nargs="?", type=Path, metavar="FILE", help="a new file (default: named by the time, here)"
    )
    config_argument(bundle)


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
        help="a capture of `record`, or what `buffer export` or `dead-letters export` wrote; - is standard input"
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


def _add_dead_letters(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    config_argument: Callable[[argparse.ArgumentParser], None],
) -> None:
    letters = commands.add_parser(
        "dead-letters",
        help="what could not be decoded, processed or delivered: look at it, take it again, drop it",
    )
    letters.set_defaults(module="dead_letters")
    actions = letters.add_subparsers(dest="action", required=True, metavar="COMMAND")
    texts = {
        "list": "list them: whose, since when, and why",
        "show": "show some whole, with their original bytes",
        "export": "write them out, as JSON lines",
        "requeue": "after a fix: take them again, through decoding and steps, or to their upstream",
        "drop": "remove them for good",
    }
    for name, text in texts.items():
        action = actions.add_parser(name, help=text)
        action.add_argument(
            "ids", nargs="+" if name == "show" else "*", metavar="ID", help="these only: 12, or 12-40"
        )
        config_argument(action)
        action.add_argument("--source", metavar="ID", help="of this source only")
        action.add_argument("--upstream", metavar="NAME", help="that this upstream did not take")
        action.add_argument(
            "--stage", metavar="STAGE", help="that failed there: framing, decode, a step, upstream"
        )
        action.add_argument("--reason", metavar="TEXT", help="with this in their reason")
        action.add_argument(
            "--since", metavar="TIME", help="that came then or later: 2026-07-01T12:00:00Z, or '2 days' ago"
        )
        action.add_argument("--until", metavar="TIME", help="that came before")
        if name == "list":
            action.add_argument("--json", action="store_true", help="print a JSON object for each")
        if name == "export":
            action.add_argument(
                "--output", "-o", type=Path, metavar="FILE", help="a new file (default: stdout)"
            )
        if name in {"requeue", "drop"}:
            action.add_argument("--all", action="store_true", help="all there are")
