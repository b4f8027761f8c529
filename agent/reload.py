"""A change of configuration while the agent runs: by SIGHUP, or when the file changed, if that is asked for.

What the new file changes is changed, and nothing else. A file with an error changes nothing, and neither does one that changes
what a running agent cannot change: the agent goes on with the last good one whole, never with a mixture that no file
describes, and says so in its log and in its status until it is restarted or another one has come.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from agent.config import ConfigurationError
from agent.config.files import files_of
from agent.spine.errors import CONFIGURATION, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from agent.config import AgentConfig
    from agent.spine.spine import Spine

_log = logging.getLogger(__name__)

WATCH_S: Final = 5.0
"""How often a watched file is looked at; it is read when it has been the same for as long, since editors write in parts."""


class NeedsRestart(ValueError):
    """A configuration that the running agent cannot change over to.

    Args:
        keys: Those that cannot be changed while it runs.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        self.keys = tuple(keys)
        super().__init__(
            f"needs a restart: {' and '.join(keys)}; until then nothing of the change is in use, so that no mixture runs"
        )


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
    needs_restart: tuple[str, ...] = ()
    """The keys of it that cannot be changed while it runs, if that is why."""


class Reload:
    """Reads the configuration again when somebody wants it. Made in a thread, since it looks at the files.

    Args:
        agent: What changes over.
        load: Reads and checks the files; blocks.
        spine: Errors, time.
        path: The file that is named; others are beside it.
        secret_files: The files of secrets that the present one names.
    """

    def __init__(
        self,
        agent: Changeable,
        load: Callable[[], AgentConfig],
        spine: Spine,
        path: Path,
        secret_files: Sequence[Path] = (),
    ) -> None:
        self._agent = agent
        self._load = load
        self._spine = spine
        self._path = path
        self._secret_files = secret_files
        self._known = self._state()
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
            config = await asyncio.to_thread(self._read)
            await self._agent.apply(config)
        except Exception as error:  # noqa: BLE001 (the new configuration's parts may be anybody's; it is reported)
            text = _reason(error)
            if text != self.loaded.refused:
                await self._spine.errors.report(error, layer=CONFIGURATION, operation="reload")
            keys = error.keys if isinstance(error, NeedsRestart) else ()
            self.loaded = Loaded(self.loaded.at, text, keys)
        else:
            self.loaded = Loaded(self._spine.clock.now())
            _log.info("the configuration was read again, and is in use")

    def _read(self) -> AgentConfig:
        """What the files say, remembering as of when: a change after that is another one."""
        before, secret_files = self._state(), self._secret_files
        try:
            config = self._load()
        except ConfigurationError as error:
            self._secret_files = error.secret_files or secret_files
            raise
        else:
            self._secret_files = config.secret_files
            return config
        finally:
            files = {file: state for file, state in before.items() if file not in secret_files}
            named = {file: before.get(file) or _state_of(file) for file in self._secret_files}
            self._known = files | named

    async def watch(self) -> None:
        """Request it whenever a file has changed, appeared or gone, until cancelled."""
        seen = self._known
        while True:
            await asyncio.sleep(WATCH_S)
            now = await asyncio.to_thread(self._state)
            if now != self._known and now == seen:
                self._known = now
                self.request()
            seen = now

    def _state(self) -> dict[Path, tuple[int, int] | None]:
        """Each file with what changes when it does."""
        try:
            files = files_of(self._path)
        except OSError:
            files = [self._path]
        return {file: _state_of(file) for file in (*files, *self._secret_files)}


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
