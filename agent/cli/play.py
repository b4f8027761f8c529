"""`outstation play`: serves a capture on a pseudo-terminal, as the port that said it."""

from __future__ import annotations

import asyncio
import math
import signal
import sys
from typing import TYPE_CHECKING

from agent.captures.format import CaptureError, CaptureReader
from agent.captures.player import Terminal, play
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Play once: wait for a reader, say everything, and end when it is taken."""
    try:
        speed = _speed(arguments.speed)
    except ValueError as error:
        _say(str(error))
        return WRONG_CONFIGURATION
    # As Ctrl-C, so that the port is taken away in order.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with arguments.capture.open("rb") as file, Terminal(arguments.link) as terminal:
            reader = CaptureReader(file)
            print(arguments.link or terminal.path, flush=True)
            _say(f"plays what {reader.header.get('port', 'a port')} said, as soon as somebody opens it")
            sent_bytes = asyncio.run(play(reader.pieces(), terminal, speed))
    except CaptureError as error:
        _say(f"{arguments.capture}: {error}")
        return FAILED
    except OSError as error:
        _say(f"{error.filename2 or error.filename or arguments.capture}: {error.strerror or error}")
        return FAILED
    _say(f"{sent_bytes} bytes played")
    if reader.damaged:
        _say(f"{reader.damaged} lines of {arguments.capture} are not whole and were left out")
    return DONE


def _speed(text: str) -> float:
    """How many times as fast.

    Raises:
        ValueError: It is no number above 0, nor `max`.
    """
    if text == "max":
        return math.inf
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed < math.inf:
        raise ValueError(f"--speed {text}: should be a number above 0, or max")
    return speed


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
