"""What is done while the buffer does not open: sensors that only speak are heard, into memory."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.spine.errors import STORAGE
from agent.waiting_room import WaitingRoom

if TYPE_CHECKING:
    from agent.composition.processing import Processing
    from agent.composition.sources import Sources
    from agent.config import AgentConfig
    from agent.spine.spine import Spine
    from collectors.models import CollectedData

_log = logging.getLogger(__name__)


class Meanwhile:
    """Hears sources before there is a buffer, and hands over what they said once there is.

    Args:
        sources: All of them.
        spine: Errors and tasks.
    """

    def __init__(self, sources: Sources, spine: Spine) -> None:
        self._sources = sources
        self._spine = spine
        self._room: WaitingRoom | None = None
        self._heard: frozenset[str] = frozenset()
        """The sources whose frames wait."""

    async def begin(self, config: AgentConfig) -> None:
        """Begin to listen; harmless when that was begun."""
        if self._room is None:
            self._room = WaitingRoom()
            self._heard = await self._sources.begin_early(config)

    def keeps(self, data: CollectedData) -> bool:
        """Keep it in memory, if that is where it belongs now."""
        if self._room is None or data.source_id not in self._heard:
            return False
        self._room.add(data)
        return True

    def hand_over(self, processing: Processing, boot: int) -> None:
        """Let what waits be processed, in the background and before what comes later from the same sources.

        Args:
            processing: Takes it; has begun.
            boot: Which boot of the device this is.
        """
        if self._room is not None:
            work = self._handed_over(self._room, processing, boot)
            self._spine.start("hand_over", work, layer=STORAGE, subject="frames that waited in memory")

    async def _handed_over(self, room: WaitingRoom, processing: Processing, boot: int) -> int:
        _log.warning("the buffer is open: %s", room.told())
        count, gone = 0, room.gone
        for data in room.leave(boot):
            try:
                await processing.take_in(data)
            except Exception as error:  # noqa: BLE001 (as a source's own loop does: the next one follows)
                await self._spine.errors.report(error, layer=STORAGE, operation="hand_over")
            count += 1
        # Nothing waits between the last one and this, so that nothing overtakes it.
        self._heard = frozenset()
        if room.gone > gone:
            # A buffer that is full, or a disk that is slow.
            _log.warning(
                "while they were being stored, %s more had to go from memory", f"{room.gone - gone:,}"
            )
        return count

    def told(self) -> str:
        """In words, what waits; empty when nobody is heard."""
        return f"; {self._room.told()}" if self._room is not None and self._heard else ""

    def lost(self) -> str | None:
        """What is in memory only as the program ends; None when there is nothing."""
        return self._room.told() if self._room else None
