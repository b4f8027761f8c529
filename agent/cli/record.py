"""`outstation record`: writes down what a port says, with its timing."""

from __future__ import annotations

import asyncio
import math
import os
import sys
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from agent.captures.recorder import Recorder
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.cli.until_told import until_told
from agent.composition import options_of, port_options, recording_source, settings_of
from collectors.clock import SystemClock
from collectors.units import parse_duration

if TYPE_CHECKING:
    import argparse
    from typing import BinaryIO

_LINE = ("baudrate", "bytesize", "parity", "stopbits")


def main(arguments: argparse.Namespace) -> int:
    """Record until Ctrl-C, SIGTERM, or for so long."""
    try:
        options = _options(arguments)
        duration_s = _duration_s(arguments.duration)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            where = ".".join(map(str, problem["loc"])) or arguments.source
            _say(f"{where}: {problem['msg']}")
        return WRONG_CONFIGURATION
    except ValueError as error:
        _say(str(error))
        return WRONG_CONFIGURATION
    if options is None:
        return WRONG_CONFIGURATION
    try:
        # Unbuffered: a line that was written is in the file, whatever happens to this program.
        with arguments.output.open("xb", buffering=0) as file:
            return _record(options, file, arguments, duration_s)
    except FileExistsError:
        _say(
            f"{arguments.output}: is there already: a capture cannot be taken again, so it is not overwritten"
        )
    except OSError as error:
        _say(f"{arguments.output}: {error.strerror or error}")
    return FAILED


def _record(options: Any, file: BinaryIO, arguments: argparse.Namespace, duration_s: float | None) -> int:
    clock = SystemClock()
    recorder = Recorder(recording_source(options, clock), file, settings_of(options), clock, _say)
    _say(f"recording {options.name} into {arguments.output}; Ctrl-C ends it")
    status = DONE
    try:
        asyncio.run(_until_told(recorder, duration_s))
    except ConnectionError as error:
        _say(str(error))
        status = FAILED
    except OSError as error:
        _say(f"{arguments.output}: {error.strerror or error}: what came until then is in it")
        status = FAILED
    if not recorder.elapsed_s:
        arguments.output.unlink()  # the port could not be opened: nothing was recorded
        return status
    os.fsync(file.fileno())
    _say(f"{recorder.received_bytes} bytes in {recorder.pieces} pieces, {recorder.elapsed_s:.1f} s")
    return status


async def _until_told(recorder: Recorder, duration_s: float | None) -> None:
    """Record until the time is over or somebody says so.

    Raises:
        OSError: The port cannot be opened, or the file takes no more.
    """
    async with until_told(duration_s):
        await recorder.run()


def _duration_s(text: str | None) -> float | None:
    """For how long; None: until told.

    Raises:
        ValueError: It is no time above 0.
    """
    if text is None:
        return None
    try:
        duration_s = float(parse_duration(text))
    except ValueError as error:
        raise ValueError(f"--duration {text}: {error}") from None
    if not 0 < duration_s < math.inf:
        raise ValueError(f'--duration {text}: should be a time above 0, such as "10 min"')
    return duration_s


def _options(arguments: argparse.Namespace) -> Any:
    """The options of the port that is meant; None after the configuration's problems were printed.

    Raises:
        ValueError: There is no such port; a ValidationError names what is wrong with it.
    """
    line = {key: value for key in _LINE if (value := getattr(arguments, key)) is not None}
    name = arguments.source
    if name.startswith(("/", "socket://")):
        return port_options(name, line)
    if line:
        raise ValueError(f"--{min(line)} belongs to a port such as /dev/ttyUSB0; {name} has its settings")
    config = load(arguments.config)
    if config is None:
        return None
    found = {source.id: source for source in config.source}.get(name)
    if found is None:
        names = ", ".join(source.id for source in config.source)
        raise ValueError(f"there is no source {name!r} in {arguments.config}; there are {names}")
    return options_of(found)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
