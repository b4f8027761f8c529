"""What is done while the buffer does not open: sensors are heard, into memory, unless a broker keeps what they say."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.spine.errors import COLLECTION, STORAGE
from agent.waiting_room import WaitingRoom
from collectors.interfaces import CatchingUp

if TYPE_CHECKING:
    from collections.abc import Mapping

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
        self._heard: Mapping[str, object] = {}
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
                if (new := await self._caught_up(data)) is not None:
                    await processing.take_in(new)
            except Exception as error:  # noqa: BLE001 (as a source's own loop does: the next one follows)
                await self._spine.errors.report(error, layer=STORAGE, operation="hand_over")
            count += 1
        # Nothing waits between the last one and this, so that nothing overtakes it.
        heard, self._heard = self._heard, {}
        failed: dict[str, Exception] = {}
        for source_id, source in heard.items():
            try:
                if isinstance(source, CatchingUp):
                    source.caught_up()
            except Exception as error:  # noqa: BLE001 (whatever a driver raises)
                failed[source_id] = error
        for source_id, fault in failed.items():
            await self._fault_of(source_id, fault)
        if room.gone > gone:
            # A buffer that is full, or a disk that is slow.
            _log.warning(
                "while they were being stored, %s more had to go from memory", f"{room.gone - gone:,}"
            )
        return count

    async def _caught_up(self, data: CollectedData) -> CollectedData | None:
        """What its source makes of it, now that it knows what is stored; None when that is stored already."""
        source = self._heard.get(data.source_id)
        if isinstance(source, CatchingUp):
            try:
                return source.catch_up(data)
            except Exception as error:  # noqa: BLE001 (whatever a driver raises: better twice than not at all)
                await self._fault_of(data.source_id, error)
        return data

    async def _fault_of(self, source_id: str, error: Exception) -> None:
        await self._spine.errors.report(error, layer=COLLECTION, operation="catch_up", source_id=source_id)

    def told(self) -> str:
        """In words, what waits; empty when nobody is heard."""
        return f"; {self._room.told()}" if self._room is not None and self._heard else ""

    def lost(self) -> str | None:
        """What is in memory only as the program ends; None when there is nothing."""
        return self._room.told() if self._room else None
