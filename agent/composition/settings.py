"""What `[buffer]` and `[agent]` set of a running agent: limits of the buffer, log level, status socket, watching the files."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from agent import logs
from agent.buffer_watch import BufferWatch
from agent.composition.parts import BACKEND_ID, buffer_limits, device_id_of, socket_path
from agent.spine.errors import COLLECTION, CONFIGURATION, STORAGE
from agent.status.opening import socket_while_opening
from agent.status.socket import serve_status
from agent.supervisor import supervise

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from agent.config import AgentConfig
    from agent.reload import Reload
    from agent.spine.spine import Spine
    from agent.status.report import StatusReport
    from agent.status.socket import Orders
    from buffer import TinyDBBuffer

_log = logging.getLogger(__name__)

_END_TIMEOUT_S = 6.0
"""More than whoever asks for status may take."""


def fixed(config: AgentConfig) -> dict[str, object]:
    """What a running agent cannot change, by its key: a reading's identity, and where the readings are."""
    return {"device.id": device_id_of(config), "buffer.path": config.buffer.path}


class Settings:
    """Puts settings into force, and changes them.

    Args:
        config: The whole configuration.
        buffer: The buffer.
        spine: Errors, tasks, time.
        report: Gives the status report.
        reload: Watches the files.
        orders: What else can be asked for at the status socket.
        log_level_given: Whether the log level was given on the command line, which then counts.
    """

    def __init__(
        self,
        config: AgentConfig,
        buffer: TinyDBBuffer,
        spine: Spine,
        report: Callable[[], Awaitable[StatusReport]],
        reload: Reload,
        *,
        orders: Orders,
        log_level_given: bool,
    ) -> None:
        self._config = config
        self._buffer = buffer
        self._spine = spine
        self._report = report
        self._reload = reload
        self._orders = orders
        self._log_level_given = log_level_given
        self._buffer_watch: BufferWatch | None = None
        self._socket: tuple[Path, str] | None = None
        """Where status is served, and the task that does."""
        self._while_opening: str | None = None
        """The task that serves status while the buffer does not open."""
        self._watching: str | None = None
        """The task that watches the files."""

    def begin(self) -> None:
        """Watch the buffer. It is open."""
        self._buffer_watch = BufferWatch(
            self._buffer,
            self._buffer.database.ledger,
            str(self._config.buffer.path),
            self._spine,
            left_s=lambda: self._buffer.database.capacity().left_s,
            warn_below_s=self._config.buffer.warn_below,
        )
        supervise(self._spine, "watch", BACKEND_ID, self._buffer_watch.run, layer=STORAGE)

    def serve_status(self) -> None:
        """Answer on the status socket from now on."""
        path = socket_path(self._config)
        run = partial(serve_status, path, self._report, self._orders)
        self._socket = path, supervise(self._spine, "status", "socket", run, layer=COLLECTION)

    def serve_status_while_opening(self) -> None:
        """Answer before the buffer is open, where there is a place for that."""
        path = socket_while_opening(socket_path(self._config))
        if path is not None and self._while_opening is None:
            run = partial(serve_status, path, self._report)
            self._while_opening = supervise(self._spine, "status", "opening", run, layer=COLLECTION)

    async def end_status_while_opening(self) -> None:
        """The buffer is open."""
        if self._while_opening is not None:
            await self._end(self._while_opening, "status while the buffer opens")
            self._while_opening = None

    def take_changes(self) -> None:
        """Read the configuration again when that is asked for, or when its files change if they are to be watched."""
        supervise(self._spine, "reload", "configuration", self._reload.run, layer=CONFIGURATION)
        self._watch()

    async def apply(self, config: AgentConfig) -> None:
        """Change over to those of another configuration, whose fixed ones are the same."""
        assert self._buffer_watch is not None
        before, self._config = self._config, config
        if (limits := buffer_limits(config.buffer)) != buffer_limits(before.buffer):
            self._buffer.change(**limits)
        self._buffer_watch.warn_below(config.buffer.warn_below)
        if not self._log_level_given:
            logs.set_level(config.agent.log_level)
        if self._socket is not None and self._socket[0] != socket_path(config):
            await self._end(self._socket[1], "status socket")
            self.serve_status()
        if config.agent.watch and self._watching is None:
            self._watch()
        elif not config.agent.watch and self._watching is not None:
            await self._end(self._watching, "watching of the configuration")
            self._watching = None

    def _watch(self) -> None:
        if self._config.agent.watch:
            self._watching = supervise(
                self._spine, "watch", "configuration", self._reload.watch, layer=CONFIGURATION
            )

    async def _end(self, task_id: str, what: str) -> None:
        if not await self._spine.tasks.end_task(task_id, _END_TIMEOUT_S):
            _log.warning("the %s takes long to end", what)
