"""A change of configuration while the agent runs: by SIGHUP, or when the file changed, if that is asked for.

What the new file changes is changed, and nothing else. A file with an error changes nothing: the agent goes on with
the last good one, and says so in its log and in its status until a good one has come.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from agent.config import ConfigurationError
from agent.spine.errors import CONFIGURATION, describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from agent.config import AgentConfig
    from agent.spine.spine import Spine

_log = logging.getLogger(__name__)

WATCH_S: Final = 5.0
"""How often a watched file is looked at; it is read when it has been the same for as long, since editors write in parts."""


class NeedsRestart(ValueError):
    """A configuration that the running agent cannot change over to; the text says what it is about."""


class Changeable(Protocol):
    """What can change over to another configuration."""

    async def apply(self, config: AgentConfig) -> None:
        """Change over.

        Raises:
            NeedsRestart: It cannot while it runs; nothing was changed.
            TimeoutError: Something is in process for too long; all is as it was.
        """
        ...


@dataclass(frozen=True, slots=True)
class Loaded:
    """The configuration that the agent runs with."""

    at: datetime
    """Since when."""
    refused: str | None = None
    """Why a later one was not taken."""


class Reload:
    """Reads the configuration again when somebody wants it. Made in a thread, since it looks at the file.

    Args:
        agent: What changes over.
        load: Reads and checks the file; blocks.
        spine: Errors, time.
        watched: The file, when it is to be watched.
    """

    def __init__(
        self, agent: Changeable, load: Callable[[], AgentConfig], spine: Spine, *, watched: Path | None = None
    ) -> None:
        self._agent = agent
        self._load = load
        self._spine = spine
        self._watched = watched
        self._known = None if watched is None else _state_of(watched)
        self._wanted = asyncio.Event()
        self.loaded = Loaded(spine.clock.now())

    def request(self) -> None:
        """Read it again, soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Read it whenever it was requested, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            await self.reload()

    async def reload(self) -> None:
        """Read it, and change over to it if it is good."""
        try:
            config = await asyncio.to_thread(self._load)
            await self._agent.apply(config)
        except Exception as error:  # noqa: BLE001 (the new configuration's parts may be anybody's; it is reported)
            text = _reason(error)
            if text != self.loaded.refused:
                await self._spine.errors.report(error, layer=CONFIGURATION, operation="reload")
            self.loaded = Loaded(self.loaded.at, text)
        else:
            self.loaded = Loaded(self._spine.clock.now())
            _log.info("the configuration was read again, and is in use")

    async def watch(self) -> None:
        """Request it whenever the watched file has changed, until cancelled."""
        assert self._watched is not None
        seen = self._known
        while True:
            await asyncio.sleep(WATCH_S)
            now = await asyncio.to_thread(_state_of, self._watched)
            if now != self._known and now == seen:
                self._known = now
                self.request()
            seen = now


def _reason(error: Exception) -> str:
    if isinstance(error, ConfigurationError | NeedsRestart):
        return str(error)
    if isinstance(error, TimeoutError):
        return "something is in process for too long; tell it again to read the configuration"
    return describe(error)


def _state_of(path: Path) -> tuple[int, int] | None:
    """What changes when a file does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_mtime_ns, status.st_size)
