"""Whether this release can go on with a device's buffer, tried on a copy of it: nothing is sent, and the buffer is not touched.

An upgrade runs this with the new release while the old one collects.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.composition import open_buffer
from agent.partition import require_mounted
from buffer.copying import clear_abandoned_copies, copy_store, folder_for_copy
from buffer.inspection import Inspection

if TYPE_CHECKING:
    from pathlib import Path

    from agent.config import AgentConfig

_FOR_EVER_S = 1e9
_TRIED = b'{"source":"outstation-self-test","t":0,"values":{"tried":true}}'


class SelfTestError(RuntimeError):
    """This release cannot go on with the buffer."""


async def try_buffer(config: AgentConfig) -> int:
    """Copy the buffer, open the copy, keep a reading in it, and find everything again.

    Args:
        config: What the device runs.

    Returns:
        How many readings the copy held, and holds still.

    Raises:
        SelfTestError: Something went wrong; says what.
        NoBuffer: There is no buffer yet.
        OSError: It cannot be copied, or is on a partition that is not mounted.
    """
    path = config.buffer.path
    require_mounted(path)
    clear_abandoned_copies(path)
    with folder_for_copy(path) as folder:
        copy = folder / "buffer"
        copy_store(path, copy)
        held = Inspection(copy).readings.durable_total()
        await _use(config, copy, held)
        return held


async def _use(config: AgentConfig, copy: Path, held: int) -> None:
    # Nothing goes from the copy while it is tried, so that what is missing was not found.
    bounds = {"quota": None, "max_age": None, "keep_delivered": _FOR_EVER_S}
    section = config.buffer.model_copy(update={"path": copy} | bounds)
    of_copy = config.model_copy(update={"buffer": section})
    last = None
    for opening in range(2):
        buffer = open_buffer(of_copy)
        await buffer.connect()
        try:
            kept = (await buffer.statistics()).stored_count
            if kept < held + opening:
                raise SelfTestError(f"of {held + opening} readings {kept} are found")
            if last is not None and [record.seq for record in await buffer.recent(1)] != [last]:
                raise SelfTestError(f"the reading {last}, which was durable, is not found again")
            ids = buffer.append([_TRIED])
            await buffer.flush()
            if buffer.durable_id() != ids[-1] or (last is not None and ids[0] <= last):
                raise SelfTestError(f"the reading {ids[-1]} is not durable, or its id was used before")
            last = ids[-1]
        finally:
            await buffer.disconnect()
