"""The agent's local socket: whoever connects gets one JSON object and the end of file.

Who says nothing, and ends what he says, gets the status report. Who says one line, `{"<order>": <what it takes>}`, gets the
answer to that order, or `{"error": "<why not>"}`.

The socket is the owner's and the group's only (mode 0660), so who may read status is who may read the
agent's files.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import stat
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic import ValidationError

from agent.config.model import SOCKET_PATH_BYTES_MAX
from agent.status.report import StatusReport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from pydantic import BaseModel

    Orders: TypeAlias = Mapping[str, Callable[[Any], Awaitable[BaseModel]]]
    """By name, what carries an order out and what it answers. It raises ValueError or RuntimeError when it cannot."""

_MODE = 0o660
_TIMEOUT_S = 5.0
_PROBE_S = 1.0
"""How long another agent may take to accept a connection."""
_SAY_S = 1.0
"""How long a client may take to say what it wants; then it gets the report."""
_ORDER_S = 60.0
"""How long an order may take: what it does is bounded, but a card may be slow."""
_CLIENTS_MAX = 8
_REPORT_BYTES_MAX = 4 << 20
_ORDER_BYTES_MAX = 64 << 10


class AgentNotRunningError(ConnectionError):
    """Nobody answers on the agent's socket, or this user may not ask."""


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


class RefusedError(RuntimeError):
    """The agent cannot carry out an order; the text says why."""


async def _wanted(reader: asyncio.StreamReader) -> bytes:
    """What a client wants; nothing means the report."""
    try:
        async with asyncio.timeout(_SAY_S):
            return (await reader.readline()).strip()
    except (TimeoutError, ValueError):  # ValueError: a line without end
        return b""


async def _answer_to(line: bytes, report: Callable[[], Awaitable[StatusReport]], orders: Orders) -> bytes:
    if not line:
        return (await report()).model_dump_json().encode()
    try:
        order = json.loads(line)
        ((name, what),) = order.items()
        carry_out = orders[name]
    except (AttributeError, KeyError, TypeError, ValueError):
        return _refusal("this agent does not know the order: it may be of another version")
    try:
        async with asyncio.timeout(_ORDER_S):
            return (await carry_out(what)).model_dump_json().encode()
    except TimeoutError:
        return _refusal(
            f"not done within {_ORDER_S:.0f} s: the disk may hang; what was done until then is done"
        )
    except (ValueError, RuntimeError, OSError) as error:
        return _refusal(str(error) or type(error).__name__)


def _refusal(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode()


async def serve_status(
    path: Path, report: Callable[[], Awaitable[StatusReport]], orders: Orders | None = None
) -> None:
    """Answer on the socket until cancelled.

    Args:
        path: Where.
        report: Makes the status report.
        orders: What else can be asked for.

    Raises:
        OSError: The socket cannot be made, or its place is taken.
        ValueError: Its path is too long.
    """
    check_socket_path(path)
    slots = asyncio.Semaphore(_CLIENTS_MAX)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with slots, asyncio.timeout(_TIMEOUT_S + _ORDER_S):
                text = await _answer_to(await _wanted(reader), report, orders or {})
                async with asyncio.timeout(_TIMEOUT_S):
                    writer.write(text)
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (TimeoutError, ConnectionError):
            writer.transport.abort()  # a client that does not read is no reason to wait

    await asyncio.to_thread(_make_way, path)
    server = await asyncio.start_unix_server(answer, path, limit=_ORDER_BYTES_MAX)
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
    answer = await _asked(path, b"", _TIMEOUT_S)
    try:
        return StatusReport.model_validate_json(answer)
    except ValidationError as error:
        raise AgentNotRunningError(
            f"what answers on {path} gave no report: it may be starting or stopping, or be of another version"
        ) from error


async def give_order(path: Path, name: str, what: BaseModel) -> bytes:
    """Have the agent that listens on a socket carry out an order; what it answers.

    Raises:
        AgentNotRunningError: Nobody answers there.
        RefusedError: It cannot.
    """
    line = json.dumps({name: what.model_dump(mode="json")}).encode() + b"\n"
    answer = await _asked(path, line, _TIMEOUT_S + _ORDER_S)
    try:
        said = json.loads(answer)
    except ValueError:
        raise AgentNotRunningError(f"what answers on {path} broke off: it may be stopping") from None
    if isinstance(said, dict) and "error" in said:
        raise RefusedError(str(said["error"]))
    return answer


async def _asked(path: Path, line: bytes, timeout_s: float) -> bytes:
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_unix_connection(path, limit=_REPORT_BYTES_MAX)
            try:
                writer.write(line)
                writer.write_eof()
                return await reader.read()
            finally:
                writer.close()
    except PermissionError as error:
        raise AgentNotRunningError(f"this user may not ask the agent on {path}: use sudo") from error
    except (OSError, TimeoutError) as error:
        # asyncio has a text of its own for time-outs: none.
        reason = error.strerror or str(error) or "no answer in time"
        raise AgentNotRunningError(
            f"no agent answers on {path} ({reason}); is `outstation run` running with this configuration?"
        ) from error
