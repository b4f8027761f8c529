"""The first step of every pipeline: a frame or message becomes readings."""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any

from collectors.enums import ClockQuality, QualityFlag
from collectors.interfaces import IProcessor
from collectors.metadata_keys import (
    FRAME_ERROR,
    METRIC,
    ORIGIN,
    QUALITY,
    RETAINED,
    TAGS,
    TAKEN,
    UNNAMED,
    UP_NS,
)
from collectors.models import CollectedData, ProcessingResult, Quality, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from typing import Protocol

    class DecodedLike(Protocol):
        """What a codec gives for each reading in a frame."""

        @property
        def values(self) -> dict[str, bool | int | float | str]:
            """The metrics."""
            ...

        @property
        def t(self) -> float | None:
            """When it was measured, if the frame says so."""
            ...

        @property
        def offset_s(self) -> float:
            """How long after its arrival it was measured, when `t` is None; less than zero: before."""
            ...

        @property
        def units(self) -> dict[str, str]:
            """The units, if the frame says so."""
            ...

        @property
        def tags(self) -> dict[str, str]:
            """Tags, if the frame says what it is about."""
            ...

    Codec = Callable[[bytes], Sequence[DecodedLike]]

NAME = "decode"
_SENSOR_T_MIN = 946_684_800.0
"""2000-01-01: where the clocks of microcontrollers begin that nobody has set, or before."""
_AHEAD_MAX_S = 86_400.0
"""A sensor's clock may be set to local time, but not be further ahead of ours than any time zone."""
_THREAD_BYTES_MIN = 8 * 1024
"""Larger frames and messages are decoded off the event loop: this much JSON may be 1000 readings, which take 13 ms."""


_NS = 1_000_000_000

_OLD = Quality(
    flag=QualityFlag.UNCERTAIN, reason="retained by the broker: measured at an unknown time before this"
)


def _synced() -> ClockQuality:
    return ClockQuality.SYNCED


def _refusing(reason: str) -> Codec:
    def refuse(_raw: bytes) -> list[DecodedLike]:
        raise ValueError(reason)

    return refuse


class Decode(IProcessor):
    """Decodes `CollectedData` into a list of `Reading`.

    A time that the frame itself carries is the sensor's own. It is the reading's time, as it is, and the time of
    arrival is kept beside it where our clock was right; or, for a source whose sensor's clock is not to be trusted,
    the other way round. A time that cannot be (the sensor's clock started in 1970, say) is never the reading's.
    Without one, the time is that of arrival, as good as the clock is now.

    Args:
        codec: Finds the codec for a source and a data format; raises ValueError when there is none.
        boot: Which boot of the device this is, counted from 1; 0 is unknown.
        clock_quality: How good the wall clock is now.
        source_tags: Tags that every reading of a source gets; what the frame or topic says wins.
        own_time: Sources whose readings have the time of arrival, whatever the sensor says.
    """

    def __init__(
        self,
        codec: Callable[[str, str], Codec],
        *,
        boot: int = 0,
        clock_quality: Callable[[], ClockQuality] = _synced,
        source_tags: Mapping[str, Mapping[str, str]] | None = None,
        own_time: Container[str] = frozenset(),
    ) -> None:
        self._find_codec = codec
        self._codecs: dict[tuple[str, str], Codec] = {}
        self._boot = boot
        self._clock_quality = clock_quality
        self._source_tags = dict(source_tags or {})
        self._own_time = own_time

    def get_processor_name(self) -> str:
        """`decode`."""
        return NAME

    def validate_input(self, data: Any) -> bool:
        """Whether it is a `CollectedData`."""
        return isinstance(data, CollectedData)

    async def process(self, data: Any) -> ProcessingResult:
        """Decode one frame or message; a failed result says what is wrong with it.

        Raises:
            ValueError: It is not a `CollectedData`.
        """
        if not isinstance(data, CollectedData):
            raise ValueError(f"decode takes CollectedData, not {type(data).__name__}")
        begun_s = time.perf_counter()
        codec = self._codecs.get((data.source_id, data.data_format))
        try:
            if codec is None:
                # It is imported, and the installed packages are perhaps searched for it.
                codec = await asyncio.to_thread(self._learn_codec, data.source_id, data.data_format)
            if len(data.raw_data) < _THREAD_BYTES_MIN:
                readings = self._decode(data, codec)
            else:
                readings = await asyncio.to_thread(self._decode, data, codec)
        except ValueError as error:
            return ProcessingResult(
                success=False, error=str(error), processing_time=time.perf_counter() - begun_s
            )
        return ProcessingResult(
            success=True, processed_data=readings, processing_time=time.perf_counter() - begun_s
        )

    def _learn_codec(self, source_id: str, data_format: str) -> Codec:
        """The codec of a source, looked up once; when there is none, one that says so."""
        try:
            codec = self._find_codec(source_id, data_format)
        except ValueError as error:
            codec = _refusing(str(error))
        self._codecs[source_id, data_format] = codec
        return codec

    def _decode(self, data: CollectedData, codec: Codec) -> list[Reading]:
        metadata = data.metadata
        if (garbage := metadata.get(FRAME_ERROR)) is not None:
            raise ValueError(f"not a frame: {garbage}")
        arrived = data.timestamp.timestamp()
        up = metadata.get(UP_NS, 0)
        tags = metadata.get(TAGS, {})
        if (source_tags := self._source_tags.get(data.source_id)) is not None:
            tags = {**source_tags, **tags}
        origin = metadata.get(ORIGIN)
        metric = metadata.get(METRIC)
        old = RETAINED in metadata
        taken = metadata.get(TAKEN)
        boot, clock = (self._boot, self._clock_quality()) if taken is None else taken
        readings = []
        for decoded in codec(data.raw_data):
            values, units = decoded.values, decoded.units
            own_tags = {**tags, **decoded.tags} if decoded.tags else tags
            if metric is not None:
                values, units, own_tags = named(values, units, own_tags, metric)
            readings.append(
                Reading(
                    source=data.source_id,
                    values=values,
                    units=units,
                    tags=own_tags,
                    quality=dict.fromkeys(values, _OLD) if old and decoded.t is None else {},
                    indicators=metadata.get(QUALITY, {}),
                    boot=boot,
                    # Before this boot there was no such clock: unknown.
                    up=max(0, up + round(decoded.offset_s * _NS)) if up and decoded.t is None else up,
                    origin=origin,
                    **self._times(data.source_id, arrived + decoded.offset_s, decoded.t, clock),
                )
            )
        return readings

    def _times(
        self, source_id: str, arrived: float, sensor_t: float | None, quality: ClockQuality
    ) -> dict[str, Any]:
        """What a reading says about time."""
        if sensor_t is None:
            return {"t": arrived, "clock": quality}
        latest = arrived + _AHEAD_MAX_S if quality is ClockQuality.SYNCED else math.inf
        if source_id in self._own_time or not _SENSOR_T_MIN <= sensor_t <= latest:
            return {"t": arrived, "clock": quality, "t_sensor": sensor_t}
        if quality is ClockQuality.SYNCED:
            return {"t": sensor_t, "clock": quality, "t_arrived": round(arrived, 6)}
        return {"t": sensor_t, "clock": ClockQuality.SYNCED}


def named(
    values: dict[str, bool | int | float | str], units: dict[str, str], tags: dict[str, str], metric: str
) -> tuple[dict[str, bool | int | float | str], dict[str, str], dict[str, str]]:
    """Values, units and tags, with the name that the source knows for the value that the frame does not name.

    A frame that names all its values keeps its names; the source's becomes a tag.
    """
    if UNNAMED not in values or metric in values:
        return values, units, {**tags, METRIC: metric}
    return (
        {metric if name == UNNAMED else name: value for name, value in values.items()},
        {metric if name == UNNAMED else name: unit for name, unit in units.items()},
        tags,
    )
