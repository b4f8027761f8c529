"""A serial port as a data source."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from collectors.interfaces import IDataSource
from collectors.metadata_keys import FRAME_ERROR, UP_NS
from collectors.models import CollectedData
from drivers.framing import FrameError
from drivers.serial import port as serial_port
from drivers.serial.link import SerialLink
from drivers.serial.observer import Observer
from drivers.serial.polling import Poller
from drivers.serial.presence import Presence
from drivers.serial.resender import Resender
from drivers.serial.trouble import PortError, TroubleKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence

    from collectors.clock import Clock
    from collectors.models import Reading
    from drivers.framing import FrameCounts
    from drivers.serial.config import SerialConfig
    from drivers.serial.link import Arrival
    from drivers.serial.resender import Reads


class SerialSource(IDataSource):
    """Frames from a serial port, each stamped when its last byte arrived.

    A connection that is lost is not opened again here: whoever collects decides when to connect anew.

    Args:
        source_id: The unique identifier of this source.
        config: The port and its framing.
        data_format: The codec that can decode a frame.
        clock: Stamps what arrives.
    """

    def __init__(self, source_id: str, config: SerialConfig, *, data_format: str, clock: Clock) -> None:
        self._source_id = source_id
        self._config = config
        self._data_format = data_format
        self._clock = clock
        # Looked up at each opening, so that a test can put a stuck adapter in its place.
        self._opener = serial_port.Opener(self._open_device, config.name)
        self._presence = Presence(config)
        self._link: SerialLink | None = None
        self._is_connected = False
        self._observer = Observer(source_id, config, clock)
        self._poller: Poller | None = None
        if config.poll is not None:
            self._poller = Poller(config.poll, config.framing, config.name, clock)
        self._resender: Resender | None = None
        self._catching_up: Resender | None = None
        """The resender, while what it has to know of still waits to be shown to it."""

    @property
    def frame_counts(self) -> FrameCounts | None:
        """What the framer of the present or latest connection has seen."""
        return self._link.framer.counts if self._link is not None else None

    @property
    def troubles(self) -> Mapping[str, int]:
        """How often each kind of trouble was met since this source was made (`drivers.serial.trouble`)."""
        troubles = self._observer.troubles()
        if self._resender is not None and self._resender.lost:
            return {**troubles, TroubleKind.MISSING: self._resender.lost}
        return troubles

    @property
    def resume_readings(self) -> int:
        """How many of its newest stored readings this source has to know to ask for those between them."""
        return 2 * self._config.resend.depth if self._config.resend is not None else 0

    def resume(self, kept: Sequence[Reading], reads: Reads) -> None:
        """Go on after what is stored: from now on, readings that are missing are asked for."""
        if self._config.resend is not None:
            resender = Resender(self._config.resend, reads, name=self._source_id, clock=self._clock)
            resender.resume(kept)
            if self._link is None:
                self._resender = resender
            else:  # it was connected before, and what it gave out then comes first
                self._catching_up = resender

    def catch_up(self, data: CollectedData) -> CollectedData | None:
        """A frame that was given out before it was known what is stored; None when it is stored already."""
        return data if self._catching_up is None else self._catching_up.take(data)

    def caught_up(self) -> None:
        """From now on, readings that are missing are asked for."""
        if self._catching_up is not None:
            self._resender, self._catching_up = self._catching_up, None
            self._resender.reconnected()  # the connection may be another one by now

    @property
    def remarks(self) -> Sequence[str]:
        """What people should know beside the state of the connection."""
        remarks = self._observer.remarks()
        if self._poller is not None and self._poller.unanswered:
            remarks.append(f"{self._poller.unanswered} requests in a row without an answer")
        if self._resender is not None and self._resender.lost:
            remarks.append(
                f"{self._resender.lost} readings were made that never came here, not even when asked for"
            )
        return remarks

    async def connect(self) -> None:
        """Open the port. Harmless when it is open.

        Raises:
            PortError: It cannot be opened; the message says why and what would help.
        """
        if self._link is not None:
            if self._is_connected and self._link.is_open:
                return
            await self._close(self._link)
        try:
            self._link = await self._open()
        except PortError as error:
            self._observer.failed(error)
            raise
        self._is_connected = True
        if self._resender is not None:
            self._resender.reconnected()

    async def reappeared(self) -> None:
        """Return when the device is plugged in again; a serial server is never."""
        if not self._config.is_device:
            await asyncio.Event().wait()
        await self._presence.changed()

    def _open_device(self) -> serial_port.Port:
        self._presence.note()
        return serial_port.open_device(self._config)

    async def _open(self) -> SerialLink:
        config, framing = self._config, self._config.framing
        link = SerialLink(
            config.name,
            framing.framer(),
            self._clock,
            gap_s=framing.gap_s,
            silence_s=config.silent_after,
            settle_s=config.settle or 0.0,
        )
        if config.is_device:
            port = await self._opener.open(config.open_timeout)
            await serial_port.attach_device(config, port, link)
            self._observer.connected(link, port)
        else:
            await serial_port.connect_socket(config, link)
            self._observer.connected(link, None)
        return link

    async def disconnect(self) -> None:
        """Close the port at once. Harmless after a failed or missing connect.

        Raises:
            PortError: The port does not close: the adapter may be stuck.
        """
        self._is_connected = False
        if self._link is not None:
            await self._close(self._link)

    async def _close(self, link: SerialLink) -> None:
        if link.is_open:
            await self._observer.disconnecting()
        try:
            await link.close()
        except PortError as error:
            self._observer.failed(error)
            raise
        self._observer.disconnected()

    async def collect(self) -> CollectedData:
        """The next frame; waits for it. A device that is polled is asked for it.

        Raises:
            PortError: The port is not open, the connection was lost, or the device does not answer.
            ValueError: What came is no frame.
        """
        link = self._opened()
        asked = self._poller.answers(link) if self._poller is not None else None
        try:
            while True:
                arrival = await self._next(link, asked)
                if isinstance(arrival.frame, FrameError):
                    raise ValueError(f"{self._config.name}: {arrival.frame.reason}")
                if (data := self._taken(link, self._data(arrival))) is not None:
                    return data
        except StopAsyncIteration:
            raise PortError(TroubleKind.NO_ANSWER, f"{self._config.name}: no answer") from None
        finally:
            if asked is not None:
                await asked.aclose()

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """The frames as they come. What is no frame comes too, with the reason in its metadata (FRAME_ERROR).

        When there is very much of that, it is only counted.

        Raises:
            PortError: The port is not open, the connection was lost, or the device does not answer.
        """
        link = self._opened()
        asked = self._poller.arrivals(link) if self._poller is not None else None
        try:
            while True:
                arrival = await self._next(link, asked)
                if isinstance(arrival.frame, FrameError) and not self._observer.keeps():
                    continue
                if (data := self._taken(link, self._data(arrival))) is not None:
                    yield data
        finally:
            if asked is not None:
                await asked.aclose()

    def get_source_id(self) -> str:
        """The unique identifier of this source."""
        return self._source_id

    def _opened(self) -> SerialLink:
        if self._link is None or not self._is_connected:
            raise ConnectionError(f"{self._config.name}: not open: call connect() first")
        return self._link

    async def _next(self, link: SerialLink, asked: AsyncGenerator[Arrival, None] | None) -> Arrival:
        """What comes next: by itself, or from a device that is asked.

        Raises:
            PortError: The connection was lost, or the device does not answer.
            StopAsyncIteration: It was asked once, and that is over.
        """
        try:
            arrival = await (link.next_arrival() if asked is None else anext(asked))
        except PortError as error:
            self._observer.failed(error)
            raise
        if self._observer.sees(arrival.frame):
            await self._observer.wonder()
        return arrival

    def _taken(self, link: SerialLink, data: CollectedData) -> CollectedData | None:
        """Count a frame and ask for what is missing; None when it is stored already."""
        if self._resender is None:
            return data
        kept = self._resender.take(data)
        if request := self._resender.request():
            link.write(request)
        return kept

    def _data(self, arrival: Arrival) -> CollectedData:
        frame, timestamp, up_ns = arrival
        metadata: dict[str, object] = {UP_NS: up_ns}
        if isinstance(frame, FrameError):
            metadata[FRAME_ERROR] = frame.reason
            frame = frame.raw
        return CollectedData(
            source_id=self._source_id,
            timestamp=timestamp,
            data_format=self._data_format,
            collection_method="serial",
            raw_data=frame,
            metadata=metadata,
        )
