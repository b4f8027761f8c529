"""From records to packs: encoded, compressed where it pays, cut where it is too large. Pure."""

from __future__ import annotations

import marshal
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, Self

from agent.sync import senml
from agent.sync.upstream import Pack

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agent.sync.batches import Batch, Record

PLAIN_BYTES_MAX = 8 * 1024 * 1024
"""Of an uncompressed pack: what `outstation receive` takes. Ours are some 1 MiB at most, unless batches are made larger."""
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


TextFormat = Callable[[str, str, bytes], tuple[bytes, int] | None]
"""Device, store and records as stored; the payload and how many values are in it, or None."""
_FIRST_T = re.compile(rb'"t":([0-9.]+)')


@dataclass(frozen=True, slots=True)
class Packer:
    """Makes packs of at most `payload_bytes_max`, all in one wire format."""

    payload_bytes_max: int
    encode: WireFormat = senml.encode
    content_type: str = senml.CONTENT_TYPE
    gzip: bool = True
    points_max: int | None = None
    """The most values that one message may have."""
    encode_text: TextFormat | None = None
    """Makes the same of records as they are stored, where that is possible."""

    def fits(self, pack: Pack) -> bool:
        """Whether the other end may take it."""
        within = self.points_max is None or pack.points <= self.points_max
        return within and len(pack.payload) <= self.payload_bytes_max and pack.plain_bytes <= PLAIN_BYTES_MAX

    def has_too_many(self, records: Sequence[Record]) -> bool:
        """Whether records have more values than one message may have: told without encoding them."""
        most = self.points_max
        return most is not None and sum(_points(record.document) for record in records) > most

    def pack(self, device_id: str, store_id: str, records: Sequence[Record]) -> Pack:
        """One pack of all these records, however large."""
        payload = self.encode(device_id, store_id, records)
        points = sum(_points(record.document) for record in records)
        identity = (device_id, store_id, records[0].seq, records[-1].seq, len(records))
        return self._pack(identity, payload, points)

    def pack_text(self, batch: Batch) -> Parcel | None:
        """A whole batch as one parcel, without parsing it; None where it has to be parsed, or cut."""
        text = batch.encoded
        if self.encode_text is None or text is None:
            return None
        made = self.encode_text(batch.device_id, batch.store_id, text)
        if made is None:
            return None
        identity = (batch.device_id, batch.store_id, batch.first, batch.last, len(batch))
        pack = self._pack(identity, *made)
        return Parcel.of_batch(batch, text, pack) if self.fits(pack) else None

    def _pack(self, identity: tuple[str, str, int, int, int], payload: bytes, points: int) -> Pack:
        encoding, plain_bytes = None, len(payload)
        if self.gzip and identity[-1] >= GZIP_READINGS_MIN:
            deflate = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WBITS)
            payload = deflate.compress(payload) + deflate.flush()
            encoding = "gzip"
        return Pack(*identity, payload, self.content_type, encoding, points, plain_bytes)


def _points(document: dict[str, Any]) -> int:
    values = document.get("values")
    return len(values) if isinstance(values, dict) else 0


@dataclass(frozen=True, slots=True)
class Sent:
    """A record as it is sent: with its final time."""

    seq: int
    document: dict[str, Any]


class Parcel:
    """A pack, and the records in it; or, when it cannot be encoded, why not.

    Dozens of packs may be on their way, with a thousand records each, which are looked at again only when the other
    end refuses one. Until then they are bytes: parsed, they would take thirty times the memory of the pack.

    Attributes:
        pack: What is sent.
        fault: Why there is none.
        first: The lowest sequence number.
        last: The highest.
        count: How many records.
        t: When the first of them was measured, seconds since 1970, where it says so.
    """

    __slots__ = ("_batch", "_packed", "count", "fault", "first", "last", "pack", "t")

    def __init__(self, records: Sequence[Record], pack: Pack | None, fault: str = "") -> None:
        """Keep these records; there is at least one."""
        self.pack = pack
        self.fault = fault
        self._batch: Batch | None = None
        self.first, self.last, self.count = records[0].seq, records[-1].seq, len(records)
        t = records[0].document.get("t")
        self.t = t if isinstance(t, (int, float)) else None
        # Python's own notation: it takes whatever was parsed, and gives it back as it was. It never leaves the process.
        plain = marshal.dumps([(record.seq, record.document) for record in records])
        self._packed = zlib.compress(plain, zlib.Z_BEST_SPEED)

    @classmethod
    def of_batch(cls, batch: Batch, text: bytes, pack: Pack) -> Self:
        """A whole batch, with the times that it is stored with: it holds the bytes itself."""
        made = cls.__new__(cls)
        made._packed, made._batch = b"", batch  # noqa: SLF001 (its own)
        made.pack, made.fault = pack, ""
        made.first, made.last, made.count = batch.first, batch.last, len(batch)
        found = _FIRST_T.search(text)
        made.t = None if found is None else float(found[1])
        return made

    @property
    def records(self) -> list[Sent]:
        """The records, ascending; made anew each time."""
        if self._batch is not None:
            found = [Sent(record.seq, record.document) for record in self._batch.records]
            self._batch.forget_parsed()
            return found
        return [Sent(*record) for record in marshal.loads(zlib.decompress(self._packed))]  # noqa: S302 (ours)


def parcels(
    packer: Packer, device_id: str, store_id: str, records: Sequence[Record], *, halve: bool = False
) -> list[Parcel]:
    """The records as parcels in order, each small enough; `halve` cuts at least once.

    A record that cannot be encoded, or alone is too large, becomes a parcel of its own with `fault`,
    so that it takes nobody with it.
    """
    if len(records) == 1 or not (halve or packer.has_too_many(records)):
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
                if pack.plain_bytes > PLAIN_BYTES_MAX:
                    size = f"{pack.plain_bytes} bytes uncompressed, the limit is {PLAIN_BYTES_MAX}"
                return [Parcel(records, None, f"one reading alone is too large: {size}")]
    middle = len(records) // 2
    return [
        *parcels(packer, device_id, store_id, records[:middle]),
        *parcels(packer, device_id, store_id, records[middle:]),
    ]
