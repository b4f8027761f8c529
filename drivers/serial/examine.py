"""Looks at the port of a source from outside: is it there, may the agent use it, who holds it. Opens nothing."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.examination import READ, WRITE, may, ok, problem, unknown, warning
from drivers.serial.diagnosis import advice, holders
from drivers.serial.trouble import PortError
from drivers.serial.usb import find_port
from drivers.transport.apart import run_apart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.examination import Examined, Finding, Person

_KNOWN_HOLDERS = {
    "ModemManager": "sudo systemctl disable --now ModemManager",
    "agetty": "switch the console on the serial line off: sudo raspi-config nonint do_serial_cons 1, then reboot",
}
"""Programs that take ports without being asked, and what keeps them from it."""


async def examine(examined: Examined) -> list[Finding]:
    """Look at one source's port."""
    if not examined.options.is_device:
        name = examined.options.name
        return [unknown(examined.source_id, f"{name} is not tried: it may serve only one at a time")]
    return await run_apart(f"examine-{examined.source_id}", lambda: list(_findings(examined)))


def _findings(examined: Examined) -> Iterator[Finding]:
    config, subject = examined.options, examined.source_id
    try:
        port = config.port if config.port is not None else find_port(config.configured_usb)
        state = Path(port).stat()
    except PortError as error:
        yield problem(subject, str(error), "plug it in, or correct `usb`; `lsusb` lists what there is")
        return
    except OSError as error:
        remedy = "plug it in, or correct `port`; `ls -l /dev/serial/by-id` lists what there is"
        yield problem(subject, f"{port}: {error.strerror or error}", remedy)
        return
    if not stat.S_ISCHR(state.st_mode):
        yield problem(subject, f"{port} is no serial port", "name a device such as /dev/serial/by-id/...")
        return
    for better in advice(port):
        yield warning(subject, better, "change `port` in the configuration")
    yield _permission(subject, port, state, examined.agent)
    yield _holder(subject, port, examined.agent)


def _permission(subject: str, port: str, state: os.stat_result, agent: Person) -> Finding:
    if may(agent, state, READ | WRITE):
        return ok(subject, f"{port}: the user {agent.name} may use it")
    try:
        group = grp.getgrgid(state.st_gid).gr_name
    except KeyError:
        group = str(state.st_gid)
    what = f"{port}: the user {agent.name} may not read and write it ({stat.filemode(state.st_mode)}, group {group})"
    if state.st_gid in agent.gids:
        return problem(subject, what, f"sudo chmod g+rw {port}, or a udev rule that does it")
    return problem(
        subject, what, f"sudo usermod -aG {group} {agent.name}, then restart the service or log in again"
    )


def _holder(subject: str, port: str, agent: Person) -> Finding:
    others = holders(port)
    own = [each for each in others if agent.pid is not None and each.endswith(f"(pid {agent.pid})")]
    others = [each for each in others if each not in own]
    if others:
        known = [
            _KNOWN_HOLDERS[name] for each in others if (name := each.partition(" (")[0]) in _KNOWN_HOLDERS
        ]
        remedy = "; ".join(known) or f"end it: sudo fuser -k {port}"
        return problem(subject, f"{port}: held by {', '.join(others)}", remedy)
    if own:
        return ok(subject, f"{port}: held by the agent and nobody else")
    if os.geteuid() != 0:
        return unknown(subject, f"{port}: programs of other users that hold it are seen by root only")
    return ok(subject, f"{port}: nobody holds it")
