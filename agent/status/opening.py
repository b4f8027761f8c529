"""Status while the buffer does not open.

The agent's own socket lies in the buffer's folder, which is not there then. So it answers in the folder that systemd makes for it in
/run, where only its user, its group and root get in; without systemd it says in its log alone why it does not store.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.status.clock import ClockStatus
from agent.status.report import BufferStatus, StatusReport, UpstreamStatus
from agent.status.socket import AgentNotRunningError, ask_status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from agent.config import AgentConfig
    from agent.status.report import ConfigurationStatus, SourceStatus

_FOLDER_VARIABLE: Final = "RUNTIME_DIRECTORY"
_FOLDER: Final = "/run/outstation"


def socket_while_opening(socket: Path) -> Path | None:
    """Where an agent answers whose buffer does not open; None where it has no such folder.

    Args:
        socket: Where it answers otherwise, which tells one agent of this machine from another.
    """
    folder = os.environ.get(_FOLDER_VARIABLE, "").split(":")[0]
    return _in(Path(folder), socket) if folder else None


def _in(folder: Path, socket: Path) -> Path:
    return folder / f"opening-{hashlib.sha256(os.fsencode(socket)).hexdigest()[:12]}.sock"


def places(socket: Path) -> tuple[Path, Path]:
    """Where the agent that listens on a socket is asked, one after the other.

    First where it answers while its buffer does not open, since a disk that hangs would hold up even the question whether there is
    another socket on it.
    """
    return socket_while_opening(socket) or _in(Path(_FOLDER), socket), socket


async def ask_even_while_opening(socket: Path) -> StatusReport:
    """The report of the agent that listens on a socket, or would, did its buffer open.

    Raises:
        AgentNotRunningError: Nobody answers.
    """
    first, then = places(socket)
    try:
        return await ask_status(first)
    except AgentNotRunningError:
        return await ask_status(then)


def report_while_opening(
    config: AgentConfig,
    device_id: str,
    version: str,
    started_at: datetime,
    configuration: ConfigurationStatus,
    fault: str,
    sources: Sequence[SourceStatus],
) -> StatusReport:
    """That nothing is stored, and why."""
    return StatusReport(
        version=version,
        device_id=device_id,
        pid=os.getpid(),
        started_at=started_at,
        clock=ClockStatus(
            quality="estimated", by="not asked yet", error_s=None, boot=0, boots=[], boots_known=0, steps=[]
        ),
        sources=sources,
        buffer=BufferStatus(path=str(config.buffer.path), store_id="", fault=f"NOT STORING: {fault}"),
        upstreams=[
            UpstreamStatus(name=upstream.name, driver=upstream.driver, state="stopped")
            for upstream in config.upstream
        ],
        configuration=configuration,
        errors=1,
    )
