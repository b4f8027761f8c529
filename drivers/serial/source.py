"""A serial port as a data source."""

from __future__ import annotations

from typing import TYPE_CHECKING

from collectors.interfaces import IDataSource
from collectors.metadata_keys import FRAME_ERROR, UP_NS
from collectors.models import CollectedData
from drivers.framing import FrameError
from drivers.serial import port as serial_port
from drivers.serial.link import SerialLink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from collectors.clock import Clock
    from drivers.framing import FrameCounts
    from drivers.serial.config import SerialConfig
    from drivers.serial.link import Arrival


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
        self._opener = serial_port.Opener(lambda: serial_port.open_device(config), config.port)
        self._link: SerialLink | None = None
        self._is_connected = False

    @property
    def frame_counts(self) -> FrameCounts | None:
        """What the framer of the present or latest connection has seen."""
        return self._link.framer.counts if self._link is not None else None

    async def connect(self) -> None:
        """Open the port. Harmless when it is open.

        Raises:
            ConnectionError: It cannot be opened; the message says why and what would help.
        """
        if self._link is not None:
            if self._is_connected and self._link.is_open:
                return
            await self._link.close()
        framing = self._config.framing
        link = SerialLink(self._config.port, framing.framer(), self._clock, gap_s=framing.gap_s)
        if self._config.is_device:
            port = await self._opener.open(self._config.open_timeout)
            await serial_port.attach_device(port, link)
        else:
            await serial_port.connect_socket(self._config, link)
        self._link = link
        self._is_connected = True

    async def disconnect(self) -> None:
        """Close the port at once. Harmless after a failed or missing connect.

        Raises:
            ConnectionError: The port does not close: the adapter may be stuck.
        """
        self._is_connected = False
        if self._link is not None:
            await self._link.close()

    async def collect(self) -> CollectedData:
        """The next frame; waits for it.

        Raises:
            ConnectionError: The port is not open, or the connection was lost.
            ValueError: What came is no frame.
        """
        arrival = await self._opened().next_arrival()
        if isinstance(arrival.frame, FrameError):
            raise ValueError(f"{self._config.port}: {arrival.frame.reason}")
        return self._data(arrival)

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """The frames as they come. What is no frame comes too, with the reason in its metadata (FRAME_ERROR).

        Raises:
            ConnectionError: The port is not open, or the connection was lost.
        """
        link = self._opened()
        while True:
            yield self._data(await link.next_arrival())

    def get_source_id(self) -> str:
        """The unique identifier of this source."""
        return self._source_id

    def _opened(self) -> SerialLink:
        if self._link is None or not self._is_connected:
            raise ConnectionError(f"{self._config.port}: not open: call connect() first")
        return self._link

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
