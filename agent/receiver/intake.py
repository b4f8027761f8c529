"""What the sources of packs share: from a message to its acknowledgement.

A pack's way: message -> decoded -> committed -> named to the device -> acknowledged to the broker. A receiver that is killed anywhere
on it gets the message again; the database takes it as a duplicate, and it is named once more, so that an
acknowledgement is never lost for good.

What is no pack is kept in `rejected`, told to the device by its digest, and acknowledged to the broker too:
else it would come again for ever and block those behind it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from agent.receiver.packs import (
    PackTooLarge,
    Received,
    ReceivedLosses,
    Refused,
    unpack_aside,
    unpack_losses,
)
from agent.receiver.store import Unstorable
from agent.sync.acknowledgement import Acknowledgement
from agent.sync.senml import NotSenML

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable

    from agent.receiver.committer import Committer, Inflow

_log = logging.getLogger(__name__)

M = TypeVar("M")


@dataclass(slots=True)
class Underway(Generic[M]):
    """A message between its arrival and its acknowledgement."""

    message: M
    """As the source knows it."""
    device_id: str
    """Whose topic or subject it came on."""
    origin: str
    """That topic or subject."""
    payload: bytes
    pack: Received | ReceivedLosses | Refused
    committed: asyncio.Future[None]


async def taken_in(
    message: M, origin: str, device_id: str, payload: bytes, inflow: Inflow, *, losses: bool
) -> Underway[M]:
    """Decode a message and hand it to the committer, once that has room.

    Args:
        message: As the source knows it.
        origin: The topic or subject it came on.
        device_id: Whose that is.
        payload: What it holds.
        inflow: What comes over this connection; it takes it.
        losses: Whether it is of the loss ledger.
    """
    pack = await _decoded(origin, device_id, payload, losses=losses)
    return Underway(message, device_id, origin, payload, pack, await inflow.submit(pack))


async def durable(item: Underway[M], committer: Committer) -> None:
    """Return when it is committed, or what is left of it: a pack that the database will never take is refused.

    Raises:
        StoreError: It is neither.
    """
    try:
        await item.committed
    except Unstorable as error:
        item.pack = _refused(item.origin, item.payload, str(error), in_part=True)
        item.committed = await committer.submit(item.pack)
        await item.committed


def acknowledgements(items: Iterable[Underway[M]]) -> dict[str, Acknowledgement]:
    """What there is to say to each device."""
    said: dict[str, Acknowledgement] = defaultdict(Acknowledgement)
    for item in items:
        if isinstance(item.pack, Refused):
            one = said[item.device_id]
            (one.rejected_in_part if item.pack.in_part else one.rejected).append(
                (item.pack.digest, item.pack.reason)
            )
        else:
            said[item.device_id].acked.append(item.pack.digest)
    return said


async def _decoded(
    origin: str, device_id: str, payload: bytes, *, losses: bool
) -> Received | ReceivedLosses | Refused:
    try:
        pack = unpack_losses(payload) if losses else await unpack_aside(payload)
    except NotSenML as error:
        return _refused(origin, payload, str(error), in_part=error.in_part)
    except PackTooLarge as error:
        return _refused(origin, payload, str(error), in_part=True)
    if pack.device_id != device_id:
        # A broker's rules bind a device to its topic; the readings must not say otherwise.
        return _refused(origin, payload, f"it is of device {pack.device_id!r}, not of the topic's")
    return pack


def _refused(origin: str, payload: bytes, reason: str, *, in_part: bool = False) -> Refused:
    refused = Refused(origin, payload, reason, in_part)
    _log.warning("receive: no pack on %s: %s", origin, refused.reason)
    return refused
