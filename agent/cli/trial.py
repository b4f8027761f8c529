"""`outstation try`: shows what the pipelines of a configuration make of recorded or stored data."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final

from agent.cli.buffer.words import moment
from agent.cli.buffer_trouble import telling
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.composition.trial import open_trial, stored_items
from agent.trial.inputs import Input, TrialInputError
from agent.trial.text import Summary, outcome_document, outcome_lines, step_lines

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import AgentConfig
    from agent.trial.inputs import Item
    from agent.trial.outcome import Outcome

_ITEMS_AT_ONCE: Final = 64


def main(arguments: argparse.Namespace) -> int:
    """Try; 1 when something could not be read."""
    config = load(arguments.config)
    if config is None:
        return WRONG_CONFIGURATION
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # what a sensor says may be no text
    try:
        _require_known(arguments, config)
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    try:
        return telling(lambda: _try(arguments, config), locked="it is only looked at")
    except TrialInputError as error:
        print(f"{arguments.file}: {error}", file=sys.stderr)
    return FAILED


def _require_known(arguments: argparse.Namespace, config: AgentConfig) -> None:
    """Refuse what is not there.

    Raises:
        ValueError: It is not.
    """
    names = [source.id for source in config.source]
    if arguments.source is not None and arguments.source not in names:
        raise ValueError(
            f"there is no source {arguments.source!r} in {arguments.config}; there are {', '.join(names)}"
        )
    if arguments.file is not None and (arguments.since or arguments.until):
        raise ValueError("--since and --until are for the readings in the buffer: leave out the file")
    if arguments.limit is not None and arguments.limit < 1:
        raise ValueError(f"--limit {arguments.limit}: should be 1 or more")


def _try(arguments: argparse.Namespace, config: AgentConfig) -> int:
    if arguments.file is None:
        now = datetime.now(UTC)
        try:
            since_s, until_s = moment(arguments.since, now), moment(arguments.until, now)
        except ValueError as error:
            print(error, file=sys.stderr)
            return WRONG_CONFIGURATION
        items = stored_items(config, source=arguments.source, since_s=since_s, until_s=until_s)
        return asyncio.run(_run(arguments, config, items))
    with _opened(arguments.file) as file:
        source = Input(file, config, arguments.source)
        status = asyncio.run(_run(arguments, config, source.items()))
    if source.damaged:
        print(
            f"{source.damaged} lines of {arguments.file} could not be read and were left out", file=sys.stderr
        )
    return status


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if str(path) == "-":
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise TrialInputError(f"cannot be read: {error.strerror or error}") from error
    with file:
        yield file


async def _run(arguments: argparse.Namespace, config: AgentConfig, items: Iterator[Item]) -> int:
    shown = _Shown(arguments)
    limited = items if arguments.limit is None else islice(items, arguments.limit)
    async with open_trial(config) as trial:
        if arguments.step is not None:
            try:
                trial.require_step(arguments.step)
            except ValueError as error:
                print(error, file=sys.stderr)
                return WRONG_CONFIGURATION
        while batch := await asyncio.to_thread(lambda: list(islice(limited, _ITEMS_AT_ONCE))):
            for item in batch:
                for outcome in await trial.take(item):
                    shown.show(outcome)
        for outcome in await trial.end():
            shown.show(outcome)
        for source_id in sorted(trial.strangers):
            print(f"readings of {source_id}, which is in no configuration, were left out", file=sys.stderr)
    shown.end()
    if not shown.summary.items:
        print("there was nothing to try", file=sys.stderr)
        return FAILED
    return DONE


class _Shown:
    """Prints what happens."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._json, self._step = arguments.json, arguments.step
        self.summary = Summary()

    def show(self, outcome: Outcome) -> None:
        """Print one outcome."""
        self.summary.add(outcome)
        if self._json:
            document = outcome_document(outcome, self._step)
            print(json.dumps(document, separators=(",", ":")))
            return
        lines = list(outcome_lines(outcome) if self._step is None else step_lines(outcome, self._step))
        if lines:
            print("\n".join([*lines, ""]))

    def end(self) -> None:
        """Print the summary."""
        if self._json:
            print(json.dumps({"summary": self.summary.document()}, separators=(",", ":")))
        elif self.summary.items:
            print("\n".join(self.summary.lines()))
