"""From the bytes of a request or message to readings; every size is bounded before memory is used."""

from __future__ import annotations

import asyncio
import zlib
from dataclasses import dataclass

from pydantic import ValidationError

from agent.sync import senml
from agent.sync.acknowledgement import digest
from agent.sync.losses import ToldLosses
from agent.sync.packing import PLAIN_BYTES_MAX
from agent.sync.senml import NotSenML, ReceivedReading

PACK_BYTES_MAX = PLAIN_BYTES_MAX
"""Of an uncompressed pack."""
REASON_LENGTH_MAX = 400
"""Of what is said about a refused pack; it may repeat any part of it, and is logged, kept and sent back."""
_THREAD_BYTES_MIN = 4096
"""Larger payloads are decoded off the loop (4 KiB of gzip are some 500 readings, 6 ms)."""
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31


class PackTooLarge(ValueError):
    """The pack is larger, uncompressed, than a receiver takes."""


@dataclass(frozen=True, slots=True)
class Received:
    """One pack, decoded."""

    device_id: str
    store_id: str
    readings: list[ReceivedReading]
    digest: str
    """Of the payload it came as: how it is acknowledged."""


@dataclass(frozen=True, slots=True)
class ReceivedLosses:
    """What a device tells of its losses."""

    told: ToldLosses
    digest: str
    """Of the payload it came as: how it is acknowledged."""

    @property
    def device_id(self) -> str:
        """Whose they are."""
        return self.told.device


@dataclass(frozen=True, slots=True)
class Refused:
    """One pack that is none."""

    origin: str
    """The topic it came on, or the path and whose address it came from."""
    payload: bytes
    reason: str
    in_part: bool = False
    """Perhaps because of some readings in it only."""

    def __post_init__(self) -> None:
        if len(self.reason) > REASON_LENGTH_MAX:
            object.__setattr__(self, "reason", f"{self.reason[:REASON_LENGTH_MAX]}…")

    @property
    def digest(self) -> str:
        """How it is refused."""
        return digest(self.payload)


def unpack(payload: bytes, *, bytes_max: int = PACK_BYTES_MAX) -> Received:
    """The readings in a payload, gzip or plain (gzip is told by its magic bytes, as MQTT 3.1.1 has no header for it).

    Raises:
        PackTooLarge: Its uncompressed size exceeds `bytes_max`.
        NotSenML: It is not a pack of readings.
    """
    named = digest(payload)
    if payload.startswith(_GZIP_MAGIC):
        payload = _gunzip(payload, bytes_max)
    elif len(payload) > bytes_max:
        raise PackTooLarge(f"{len(payload)} bytes; the limit is {bytes_max}")
    readings = senml.decode(payload)
    return Received(readings[0].device_id, readings[0].store_id, readings, named)


def unpack_losses(payload: bytes) -> ReceivedLosses:
    """What a device tells of its losses.

    Raises:
        PackTooLarge: It is larger than a pack may be.
        NotSenML: It is no such message.
    """
    if len(payload) > PACK_BYTES_MAX:
        raise PackTooLarge(f"{len(payload)} bytes; the limit is {PACK_BYTES_MAX}")
    try:
        return ReceivedLosses(ToldLosses.model_validate_json(payload), digest(payload))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise NotSenML(f"no message of a loss ledger: {place and f'{place}: '}{first['msg']}") from error


async def unpack_aside(payload: bytes) -> Received:
    """As `unpack`, but off the event loop when it would hold it up.

    Raises:
        PackTooLarge: Its uncompressed size exceeds `PACK_BYTES_MAX`.
        NotSenML: It is not a pack of readings.
    """
    if len(payload) < _THREAD_BYTES_MIN:
        return unpack(payload)
    return await asyncio.to_thread(unpack, payload)


def _gunzip(payload: bytes, bytes_max: int) -> bytes:
    inflate = zlib.decompressobj(_GZIP_WBITS)
    try:
        plain = inflate.decompress(payload, bytes_max)
    except zlib.error as error:
        raise NotSenML(f"broken gzip: {error}") from error
    if inflate.unconsumed_tail:
        raise PackTooLarge(f"more than {bytes_max} bytes uncompressed")
    if not inflate.eof or inflate.unused_data:
        raise NotSenML("broken gzip: " + ("it is cut off" if not inflate.eof else "something follows it"))
    return plain
