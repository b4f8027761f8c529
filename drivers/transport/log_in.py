"""Logs in at a broker as somebody else than the agent does, so that its session is left alone, and looks who is there."""

from __future__ import annotations

import asyncio
import re
import secrets
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from drivers.examination import ok, problem, unknown, unreachable, warning
from drivers.transport.apart import run_apart
from drivers.transport.mqtt import MqttConnection
from drivers.transport.mqtt_errors import MqttConnectRefused, MqttError, MqttRefused, MqttUnreachable

if TYPE_CHECKING:
    from drivers.examination import Finding
    from drivers.transport.mqtt_options import MqttOptions

_VERSION_TOPIC: Final = "$SYS/broker/version"
_VERSION_S: Final = 1.0
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_MOSQUITTO: Final = (Path("/etc/mosquitto/mosquitto.conf"), Path("/etc/mosquitto/conf.d"))
_QUEUED: Final = re.compile(r"^\s*max_queued_messages\s+(\d+)", re.MULTILINE)
QUEUED_DEFAULT: Final = 1000
"""Mosquitto's, per client (mosquitto.conf(5))."""
QUEUED_ENOUGH: Final = 100_000


async def log_in(subject: str, options: MqttOptions, *, keeps_messages: bool) -> list[Finding]:
    """Connect with a client identifier of our own, and leave at once.

    Args:
        subject: What the findings are about.
        options: As they are configured.
        keeps_messages: Whether the broker is to keep messages for us while we are away.
    """
    onlooker = replace(
        options, client_id=f"outstation-doctor-{secrets.token_hex(4)}", clean_start=True, session_expiry_s=0
    )
    try:
        async with MqttConnection(onlooker) as connection:
            version = await _version(connection)
    except MqttConnectRefused as error:
        remedy = "correct `username` and `password`, or the broker's rules" if error.authorisation else None
        return [problem(subject, f"{options.address}: {error}", remedy or "look into the broker's log")]
    except MqttUnreachable as error:
        return [unreachable(subject, str(error), "see what is said about the network")]
    except MqttError as error:
        return [unknown(subject, f"{options.address}: {error}")]
    found = [ok(subject, f"{options.address}: logged in{f' ({version})' if version else ''}")]
    if keeps_messages and version is not None and "mosquitto" in version.casefold():
        found.append(await run_apart("mosquitto-conf", lambda: _queue(subject, options.host)))
    return found


async def _version(connection: MqttConnection) -> str | None:
    """What the broker calls itself, if it tells."""
    try:
        async with asyncio.timeout(_VERSION_S):
            await connection.subscribe(_VERSION_TOPIC, 0)
            message = await connection.receive()
    except (TimeoutError, MqttRefused, MqttUnreachable):
        return None
    return None if message is None else message.payload.decode("utf-8", "replace")


def _queue(subject: str, host: str) -> Finding:
    """Whether the broker keeps enough while the agent is away."""
    limit = _configured() if host in _LOOPBACK else None
    if limit is not None and (limit == 0 or limit >= QUEUED_ENOUGH):
        return ok(subject, f"Mosquitto keeps {limit or 'any number of'} messages for a client that is away")
    what = (
        f"Mosquitto drops what is beyond {QUEUED_DEFAULT if limit is None else limit} messages that wait for the"
        f" agent{'' if limit is not None else ', unless its max_queued_messages says otherwise'}"
    )
    remedy = "in mosquitto.conf: max_queued_messages 0, persistence true, autosave_on_changes true, autosave_interval 1"
    return warning(subject, what, remedy)


def _configured() -> int | None:
    """What the broker on this machine is told; None when that cannot be seen."""
    main, folder = _MOSQUITTO
    found = None
    for file in (main, *sorted(folder.glob("*.conf"))):
        try:
            numbers = _QUEUED.findall(file.read_text("utf-8", "replace"))
        except OSError:
            continue
        found = int(numbers[-1]) if numbers else found
    return found
