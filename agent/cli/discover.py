"""`outstation discover`: looks around for sensors and proposes a configuration."""

from __future__ import annotations

import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.progress import Progress
from agent.composition.discovery import scouts
from agent.discover.look import look_around
from agent.discover.text import toml
from collectors.units import parse_duration

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence
    from pathlib import Path

    from drivers.discovery import Finding, Scout

_SECONDS_MAX = 3600.0
_LOCAL_BROKER = "mqtt://localhost:1883"


def main(arguments: argparse.Namespace) -> int:
    """Look for a while, then print what was found, or write it to a file."""
    if arguments.write is not None and (wrong := _unwritable(arguments.write)) is not None:
        print(wrong, file=sys.stderr)
        return WRONG_CONFIGURATION
    try:
        seconds = _seconds(arguments.time)
        places = scouts(
            brokers=[] if arguments.no_mqtt else arguments.mqtt or [_LOCAL_BROKER],
            ports=[] if arguments.no_serial else arguments.serial,
            adapter=None if arguments.no_ble else arguments.adapter,
            username=arguments.username,
            password_file=arguments.password_file,
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    if not places:
        print("there is nowhere to look: no broker was named, and there is no serial port", file=sys.stderr)
        return FAILED
    with Progress(f"looking at {len(places)} places", amounts=None) as progress:
        findings = asyncio.run(_look(places, seconds, progress))
    return _tell(findings, arguments)


async def _look(places: Sequence[Scout], seconds: float, progress: Progress) -> list[Finding]:
    """Look for so long, or until Ctrl-C: what was found by then is worth as much."""
    enough = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, enough.set)
    return await look_around(places, seconds, progress, enough)


def _seconds(text: str) -> float:
    seconds = float(parse_duration(text))
    if not 0 < seconds <= _SECONDS_MAX:
        raise ValueError("--time should be more than nothing, and an hour at most")
    return seconds


def _unwritable(path: Path) -> str | None:
    """Why a new file cannot be written, as far as it is known before the look; None when it can."""
    if path.exists():
        return _exists(path)
    return None if path.parent.is_dir() else f"there is no folder {path.parent} to write {path.name} into"


def _exists(path: Path) -> str:
    return f"{path} exists: name a file that does not, or paste what is printed without --write"


def _tell(findings: list[Finding], arguments: argparse.Namespace) -> int:
    text = toml(findings)
    proposed = sum(finding.source is not None for finding in findings)
    if arguments.write is None or not proposed:
        print(text, end="")
    else:
        try:
            with arguments.write.open("x", encoding="utf-8") as file:
                file.write(text)
        except OSError as error:
            print(text, end="")  # what took a while to find is not thrown away
            made = isinstance(error, FileExistsError)
            print(_exists(arguments.write) if made else f"not written: {error}", file=sys.stderr)
            return FAILED
        print(
            f"{arguments.write}: {proposed} {'source' if proposed == 1 else 'sources'}; look through it, then:"
            f" outstation check --config {arguments.write}"
        )
    if not proposed:
        print("nothing was found that could be collected", file=sys.stderr)
        return FAILED
    return DONE
