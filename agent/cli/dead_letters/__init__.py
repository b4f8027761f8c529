"""`outstation dead-letters`: what could not be decoded, processed or delivered; and what to do with it.

`list`, `show` and `export` only look: without a lock, beside a running agent.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime
from importlib import import_module
from typing import TYPE_CHECKING

from agent.cli.buffer.words import moment
from agent.cli.buffer_trouble import telling
from agent.cli.exit_status import WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.dead_letters import Selection

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

_MODULES = {
    "list": "listing",
    "show": "listing",
    "export": "exporting",
    "requeue": "ordering",
    "drop": "ordering",
}
_IDS = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)


def main(arguments: argparse.Namespace) -> int:
    """Run one of its commands."""
    try:
        selection = selection_of(arguments)
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    config = load(arguments.config)
    if config is None:
        return WRONG_CONFIGURATION
    command = import_module(f"agent.cli.dead_letters.{_MODULES[arguments.action]}")
    return telling(
        lambda: int(command.run(arguments, config, selection)),
        locked=f"no agent answers on {config.socket}, so it may be starting or stopping; try again",
    )


def selection_of(arguments: argparse.Namespace) -> Selection:
    """Which letters the arguments mean.

    Raises:
        ValueError: They make no sense; or an order does not say which.
    """
    now = datetime.now(UTC)
    selection = Selection(
        ids=tuple(_ranges(arguments.ids)),
        source=arguments.source,
        upstream=arguments.upstream,
        stage=arguments.stage,
        reason=arguments.reason,
        since_s=moment(arguments.since, now),
        until_s=moment(arguments.until, now),
    )
    if arguments.action in {"requeue", "drop"} and (selection == Selection()) is not arguments.all:
        raise ValueError(
            f"say which dead letters to {arguments.action}: either by ids, --source, --stage, --reason and so on, or --all"
        )
    return selection


def _ranges(texts: Sequence[str]) -> list[tuple[int, int]]:
    found = []
    for text in texts:
        match = _IDS.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no id of a dead letter; write 12, or 12-40 for all between")
        low = int(match[1])
        found.append((low, int(match[2] or low)))
    return found
