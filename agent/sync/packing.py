"""From records to packs: encoded, compressed where it pays, cut where it is too large. Pure."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from agent.sync import senml
from agent.sync.upstream import Pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.sync.batches import Record

GZIP_READINGS_MIN = 10
"""Below, gzip's 18 bytes and a short history save nothing worth having."""
_GZIP_LEVEL = 6
"""100 readings of five noisy metrics: 35 bytes and 1.8 us a reading; level 1 makes 45 bytes in 0.5 us."""
_GZIP_WBITS = 31


class WireFormat(Protocol):
    """How records become bytes; `agent.sync.senml.encode` is one."""

    def __call__(self, device_id: str, store_id: str, records: Sequence[Record]) -> bytes:
        """One payload; raises `senml.NotEncodable` for a document that is not a reading."""
        ...


@dataclass(frozen=True, slots=True)
class Packer:
    """Makes packs of at most `payload_bytes_max`, all in one wire format."""

    payload_bytes_max: int
    encode: WireFormat = senml.encode
    content_type: str = senml.CONTENT_TYPE
    gzip: bool = True
    points_max: int | None = None
    """The most values that one message may have."""

    def fits(self, pack: Pack) -> bool:
        """Whether the other end may take it."""
        within = self.points_max is None or pack.points <= self.points_max
        return within and len(pack.payload) <= self.payload_bytes_max

    def pack(self, device_id: str, store_id: str, records: Sequence[Record]) -> Pack:
        """One pack of all these records, however large."""
        payload = self.encode(device_id, store_id, records)
        encoding = None
        if self.gzip and len(records) >= GZIP_READINGS_MIN:
            deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
            payload = deflate.compress(payload) + deflate.flush()
            encoding = "gzip"
        return Pack(
            device_id=device_id,
            store_id=store_id,
            first=records[0].seq,
            last=records[-1].seq,
            count=len(records),
            payload=payload,
            content_type=self.content_type,
            content_encoding=encoding,
            points=sum(_points(record.document) for record in records),
        )


def _points(document: dict[str, Any]) -> int:
    values = document.get("values")
    return len(values) if isinstance(values, dict) else 0


@dataclass(slots=True)
class Parcel:
    """A pack and the records in it; or, when it cannot be encoded, why not."""

    records: Sequence[Record]
    pack: Pack | None
    fault: str = ""


def parcels(
    packer: Packer, device_id: str, store_id: str, records: Sequence[Record], *, halve: bool = False
) -> list[Parcel]:
    """The records as parcels in order, each small enough; `halve` cuts at least once.

    A record that cannot be encoded, or alone is too large, becomes a parcel of its own with `fault`,
    so that it takes nobody with it.
    """
    if not (halve and len(records) > 1):
        try:
            pack = packer.pack(device_id, store_id, records)
        except senml.NotEncodable as error:
            if len(records) == 1:
                return [Parcel(records, None, str(error))]
        else:
            if packer.fits(pack):
                return [Parcel(records, pack)]
            if len(records) == 1:
                size = f"{len(pack.payload)} bytes, the limit is {packer.payload_bytes_max}"
                if packer.points_max is not None and pack.points > packer.points_max:
                    size = f"{pack.points} values, the limit is {packer.points_max}"
                return [Parcel(records, None, f"one reading alone is too large: {size}")]
    middle = len(records) // 2
    return [
        *parcels(packer, device_id, store_id, records[:middle]),
        *parcels(packer, device_id, store_id, records[middle:]),
    ]
