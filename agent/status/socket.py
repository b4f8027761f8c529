"""The agent's local socket: whoever connects gets one JSON object, the status report, and the end of file.

The socket is the owner's and the group's only (mode 0660), so who may read status is who may read the
agent's files.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import stat
from typing import TYPE_CHECKING

from pydantic import ValidationError

from agent.config.model import SOCKET_PATH_BYTES_MAX
from agent.status.report import StatusReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

_MODE = 0o660
_TIMEOUT_S = 5.0
_PROBE_S = 1.0
"""How long another agent may take to accept a connection."""
_CLIENTS_MAX = 8
_REPORT_BYTES_MAX = 4 << 20


class AgentNotRunningError(ConnectionError):
    """Nobody answers on the agent's socket."""


def check_socket_path(path: Path) -> None:
    """Refuse a path that no socket can have.

    Raises:
        ValueError: It is too long.
    """
    if len(bytes(path)) > SOCKET_PATH_BYTES_MAX:
        raise ValueError(
            f"the socket's path {path} is longer than {SOCKET_PATH_BYTES_MAX} bytes; set a shorter one as agent.socket"
        )


def _make_way(path: Path) -> None:
    """Remove a dead agent's socket, and nothing else.

    Raises:
        OSError: Something else lies there, or another agent listens.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(f"{path} is there, and is no socket; name another place as agent.socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except TimeoutError:
            pass  # its owner is slow, but lives
    raise FileExistsError(f"another agent listens on {path}; name another place as agent.socket")


async def serve_status(path: Path, report: Callable[[], Awaitable[StatusReport]]) -> None:
    """Answer on the socket until cancelled.

    Raises:
        OSError: The socket cannot be made, or its place is taken.
        ValueError: Its path is too long.
    """
    check_socket_path(path)
    slots = asyncio.Semaphore(_CLIENTS_MAX)

    async def answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with slots, asyncio.timeout(_TIMEOUT_S):
                writer.write((await report()).model_dump_json().encode())
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, ConnectionError):
            writer.transport.abort()  # a client that does not read is no reason to wait

    await asyncio.to_thread(_make_way, path)
    server = await asyncio.start_unix_server(answer, path)
    try:
        async with server:
            await asyncio.to_thread(path.chmod, _MODE)
            await server.serve_forever()
    finally:
        with contextlib.suppress(OSError):
            await asyncio.to_thread(path.unlink, missing_ok=True)


async def ask_status(path: Path) -> StatusReport:
    """The report of the agent that listens on a socket.

    Raises:
        AgentNotRunningError: Nobody answers there, or not with a report.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(path, limit=_REPORT_BYTES_MAX)
            try:
                answer = await reader.read()
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        reason = str(error) or "no answer in time"
        raise AgentNotRunningError(
            f"no agent answers on {path} ({reason}); is `outstation run` running with this configuration?"
        ) from error
    try:
        return StatusReport.model_validate_json(answer)
    except ValidationError as error:
        raise AgentNotRunningError(
            f"what answers on {path} gave no report: it may be starting or stopping, or be of another version"
        ) from error
