"""`outstation simulate`: many virtual devices that deliver to a real broker or server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent import logs
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from agent.composition.fleet import Fleet
    from agent.sync.config import UpstreamOptions

_log = logging.getLogger(__name__)

_EVERY_S = 1.0
_DEVICES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Moment:
    """What the fleet does at one time; also what `--json` prints, one a line."""

    seconds: float
    """Since the start."""
    devices: int
    connected: int
    came_back: int
    """Devices that are connected now and were not a second before."""
    came_back_max: int
    """The most of them in any second."""
    stored: int
    delivered: int
    backlog: int
    dropped: int
    memory_mb: float

    def line(self) -> str:
        """For people."""
        return (
            f"{self.seconds:7.0f} s  connected {self.connected}/{self.devices}  came back {self.came_back}/s"
            f" (most {self.came_back_max})  stored {self.stored}  delivered {self.delivered}"
            f"  backlog {self.backlog}{f'  dropped {self.dropped}' if self.dropped else ''}  {self.memory_mb:.0f} MB"
        )


def main(arguments: argparse.Namespace) -> int:
    """Simulate until the time is over, SIGTERM or SIGINT."""
    logs.configure(arguments.log_level)
    try:
        options = _options(arguments)
        duration_s = _duration_s(arguments.time)
        _check(arguments)
        with _folder(arguments.folder) as folder:
            asyncio.run(_simulate(arguments, options, folder, duration_s))
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    except (OSError, ImportError, ExceptionGroup) as error:
        from agent.spine.errors import describe

        print(describe(error), file=sys.stderr)
        return FAILED
    return DONE


def _check(arguments: argparse.Namespace) -> None:
    if not 1 <= arguments.devices <= _DEVICES_MAX:
        raise ValueError(f"--devices should be 1 to {_DEVICES_MAX}, not {arguments.devices}")
    if not 0 < arguments.rate <= 1000:  # noqa: PLR2004 (as fast as a loop of one device goes)
        raise ValueError(f"--rate should be above 0 and at most 1000 readings/s, not {arguments.rate:g}")


def _duration_s(text: str | None) -> float | None:
    if text is None:
        return None
    from collectors.units import parse_duration

    try:
        return float(parse_duration(text))
    except ValueError as error:
        raise ValueError(f"--time {text!r}: {error}") from error


def _options(arguments: argparse.Namespace) -> UpstreamOptions:
    """The upstream of every device, as in the configuration; its errors name the option."""
    from pydantic import ValidationError

    from agent.sync.registry import UPSTREAMS, load_options_class

    scheme = urlsplit(arguments.to).scheme
    driver = {"mqtts": "mqtt", "https": "http", "tls": "nats"}.get(scheme, scheme)
    if driver not in UPSTREAMS:
        raise ValueError(
            f"--to should be one of {', '.join(sorted(UPSTREAMS))}://host:port, not {arguments.to!r}"
        )
    given: dict[str, object] = {"url": arguments.to}
    if arguments.ack is not None:
        given["ack"] = arguments.ack
    if arguments.username is not None:
        given["username"] = arguments.username
    if arguments.password_file is not None:
        given["password"] = {"file": str(arguments.password_file)}
    if arguments.ca_file is not None:
        given["ca_file"] = str(arguments.ca_file)
    if arguments.no_tls:
        given["tls"] = False
    try:
        return load_options_class(driver).model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ValueError(
            f"{'.'.join(map(str, first['loc'])) or 'upstream'}: {first['msg'].removeprefix('Value error, ')}"
        ) from error


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="outstation-fleet-") as name:
        yield Path(name)


async def _simulate(
    arguments: argparse.Namespace, options: UpstreamOptions, folder: Path, duration_s: float | None
) -> None:
    from agent.composition.fleet import Fleet, FleetPlan
    from agent.spine.spine import open_spine

    plan = FleetPlan(arguments.devices, options, folder, arguments.rate, arguments.ramp)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    async with open_spine() as spine:
        fleet = Fleet(plan, spine)
        running = asyncio.create_task(fleet.run(), name="fleet")
        telling = asyncio.create_task(_tell(fleet, as_json=arguments.json), name="fleet-tell")
        waiting = asyncio.create_task(stopped.wait(), name="fleet-stop")
        try:
            await asyncio.wait({running, waiting}, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            for task in (running, telling, waiting):
                task.cancel()
            await asyncio.wait({running, telling, waiting})


async def _tell(fleet: Fleet, *, as_json: bool) -> None:
    from pydantic_core import to_json

    began = time.monotonic()
    connected: set[str] = set()
    most = 0
    while True:
        await asyncio.sleep(_EVERY_S)
        now = {device.device_id for device in fleet.devices if device.connected}
        came_back = len(now - connected)
        connected, most = now, max(most, came_back)
        moment = Moment(
            seconds=round(time.monotonic() - began, 3),
            devices=len(fleet.devices),
            connected=len(now),
            came_back=came_back,
            came_back_max=most,
            stored=sum(device.stored for device in fleet.devices),
            delivered=sum(device.delivered for device in fleet.devices),
            backlog=sum(device.backlog for device in fleet.devices),
            dropped=sum(device.dropped for device in fleet.devices),
            memory_mb=await asyncio.to_thread(_memory_mb),
        )
        print(to_json(asdict(moment)).decode() if as_json else moment.line(), flush=True)


def _memory_mb() -> float:
    """Resident memory of this process."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return round(int(line.split()[1]) * 1024 / 1e6, 1)
    return 0.0
