"""Advertisements as a data source: what sensors say to everybody, each measurement once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.interfaces import IDataSource
from collectors.metadata_keys import QUALITY, SENSOR, TAGS, UP_NS
from collectors.models import CollectedData
from drivers.ble.inbox import Inbox
from drivers.ble.payload import Payload
from drivers.ble.repeats import Repeats
from drivers.ble.station import station
from drivers.ble.watchdog import Rung, Usual, Watchdog
from drivers.codecs.advertisement import Advertisement

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

    from collectors.clock import Clock
    from collectors.interfaces import Memory
    from drivers.ble.config import BleConfig
    from drivers.ble.radio import Radio
    from drivers.ble.scan import Want

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 1000
"""Readings that may wait for the pipeline."""
PATIENT_S: Final = 20.0
"""How long a source that has said what is missing waits for it, at a time; below the 30 s that a connect may take."""


class Heard(NamedTuple):
    """An advertisement that is a reading of its own."""

    raw: bytes
    address: str
    measured: bytes
    quality: dict[str, float]
    timestamp: datetime
    up_ns: int


class BleSource(IDataSource):
    """The advertisements of one sensor, or of several that the same filters fit.

    A scan that bluetoothd or the adapter ends is not started again here: whoever collects decides when to connect anew. When
    there is only silence, the ladder of `drivers.ble.watchdog` is climbed while collecting.

    Args:
        source_id: The unique identifier of this source.
        config: The adapter and the filters.
        data_format: The codec that can decode the data.
        clock: Stamps what arrives.

    Attributes:
        repeats: Tells repetitions.

    Raises:
        ValueError: The filters do not say which data the codec is for.
    """

    def __init__(self, source_id: str, config: BleConfig, *, data_format: str, clock: Clock) -> None:
        self.payload = Payload(config, data_format)
        self.want: Want | None = self.payload.want
        self.repeats = Repeats(config.interval)
        self._source_id = source_id
        self._config = config
        self._data_format = data_format
        self._clock = clock
        self._watchdog = Watchdog(clock.monotonic_s(), config.silent_after)
        self._usual = Usual()
        self._troubles: Counter[str] = Counter()
        self._told_of_loss = False
        self._without_data = 0
        """Advertisements that came from the sensor and had none of the data, since it was heard."""
        self._radio: Radio | None = None
        self._inbox: Inbox[Heard] = Inbox(WAITING_MAX)
        self._in_hand: Heard | None = None
        """Given out, and perhaps not kept yet: whoever collects asks for the next one only when it is."""
        self._memory: Memory | None = None
        self._noted: dict[str, list[str]] = {}
        self._given_out_before = Repeats(config.interval)
        """Tells what an earlier run has taken, of what was given out before that was known."""
        self._patient_s = 0.0

    def use_memory(self, memory: Memory) -> None:
        """Remember over restarts what was heard last, so that it is not taken once more when it is repeated."""
        self._memory = memory
        notes = memory.recall().get("heard")
        self.repeats.take_up(notes)
        self._given_out_before.take_up(notes)

    def catch_up(self, data: CollectedData) -> CollectedData | None:
        """A reading that was given out before the memory was there; None when an earlier run has taken it."""
        address = data.metadata.get(SENSOR) or (self._config.address or [""])[0]
        measured = self.payload.measured_in(data.raw_data)
        if measured is None or not self.payload.is_numbered(measured):
            return data
        new = self._given_out_before.is_new(address, measured, self._clock.monotonic_s(), numbered=True)
        return data if new else None

    def caught_up(self) -> None:
        """Nothing to do: repetitions of what was heard before are known since the memory is there."""

    def get_source_id(self) -> str:
        """The unique identifier of this source."""
        return self._source_id

    async def connect(self) -> None:
        """Begin to listen. Harmless when it does already.

        Raises:
            ConnectionError: bluetoothd, the adapter or the scan cannot be had; the message says why and what would help.
        """
        if self._radio is not None and not self._inbox.failed:
            return
        await self.disconnect()
        patient_s, self._patient_s = self._patient_s, PATIENT_S
        try:
            radio = await station(self._clock).enter(
                self, self._config.adapter, manage=self._config.manage_adapter, wait_s=patient_s
            )
            self._inbox = Inbox(WAITING_MAX)
            self._watchdog.listen(self._clock.monotonic_s())
            self._without_data = 0
            self.want = self.payload.want
            await radio.join(self)
        except BaseException:
            await station(self._clock).leave(self)
            raise
        self._radio = radio
        self._patient_s = 0.0

    async def disconnect(self) -> None:
        """Stop listening. Harmless after a failed or missing connect."""
        radio, self._radio = self._radio, None
        self._inbox.fail(ConnectionError(f"{self._source_id}: disconnected"))
        if radio is not None:
            try:
                await self._note()
                await radio.leave(self)
            finally:
                await station(self._clock).leave(self)

    async def _note(self) -> None:
        """Write down what was heard and taken; what was not may be taken when it comes again."""
        left = self._inbox.take_all()
        if self._in_hand is not None:
            left.append(self._in_hand)
            self._in_hand = None
        for heard in left:
            self.repeats.forget(heard.address, heard.measured)
        notes = self.repeats.notes()
        if self._memory is not None and notes != self._noted:
            self._noted = notes
            await self._memory.note({"heard": notes})

    async def collect(self) -> CollectedData:
        """The next reading; waits for it, and looks after the adapter when there is silence for too long.

        Raises:
            ConnectionError: The source is not connected, or can hear nothing any more.
        """
        radio = self._radio
        if radio is None:
            raise ConnectionError(f"the BLE source {self._source_id!r} is not connected")
        self._in_hand = None
        while True:
            if self.want is not self.payload.want:
                self.want = self.payload.want
                await radio.retune()
            try:
                async with asyncio.timeout(max(0.0, self._watchdog.due_s - self._clock.monotonic_s())):
                    self._in_hand = await self._inbox.get()
                    return self._collected(self._in_hand)
            except TimeoutError:
                await self._look_after(radio)

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """Readings as they come.

        Raises:
            ConnectionError: The source is not connected, or can hear nothing any more.
        """
        while True:
            yield await self.collect()

    def _collected(self, heard: Heard) -> CollectedData:
        metadata: dict[str, Any] = {UP_NS: heard.up_ns, QUALITY: heard.quality}
        if not self.payload.one_sensor:
            metadata[TAGS] = {"address": heard.address}
            metadata[SENSOR] = heard.address
        return CollectedData(
            source_id=self._source_id,
            timestamp=heard.timestamp,
            data_format=self._data_format,
            collection_method="ble",
            raw_data=heard.raw,
            metadata=metadata,
        )

    # What the radio tells

    def heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        """An advertisement was heard, of anybody."""
        advertisement = Advertisement(
            address=device.address.upper(),
            name=data.local_name,
            services=tuple(data.service_uuids),
            service_data=data.service_data,
            manufacturer_data=data.manufacturer_data,
            tx_power=data.tx_power,
        )
        if not self.payload.fits(advertisement):
            return
        measured = self.payload.measured(advertisement)
        if measured is None:
            self._without_data += 1
            self._troubles["without_data"] += 1
            return
        now_s = self._clock.monotonic_s()
        self._without_data = 0
        self._watchdog.heard(now_s)
        numbered = self.payload.is_numbered(measured)
        if not numbered:
            self.payload.needs_repetitions()
        if self._inbox.full:
            self._lose_one()  # and not take it for known: it may be said again when there is room
            return
        if not self.repeats.is_new(advertisement.address, measured, now_s, numbered=numbered):
            return
        quality = {"rssi_dbm": float(data.rssi)}
        if data.tx_power is not None:
            quality["tx_power_dbm"] = float(data.tx_power)
        raw = self.payload.raw(advertisement, measured)
        stamp, up_ns = self._clock.now(), self._clock.boottime_ns()
        heard = Heard(raw, advertisement.address, measured, quality, stamp, up_ns)
        self._usual.heard(advertisement.address, now_s)
        self._inbox.put(heard)

    def _lose_one(self) -> None:
        self._troubles["no_room"] += 1
        if not self._told_of_loss:
            self._told_of_loss = True
            logger.warning("%s: the pipeline is too slow: what is heard finds no room", self._source_id)

    def lost(self, error: ConnectionError) -> None:
        """Nothing can be heard any more."""
        self._inbox.fail(error)

    # Silence

    def usual_silence_s(self) -> float | None:
        """How long no reading may come. While the sensor is heard, however often it repeats itself, that is no silence."""
        if not self.payload.one_sensor:
            return self._usual.silence_s()
        silent = self._watchdog.is_silent(self._clock.monotonic_s())
        return self._watchdog.explained_s if silent else None

    def explain_silence(self) -> str:
        """What may be behind it."""
        radio = self._radio
        if radio is None:
            return ""
        if (heard := self._explain_hearing()) is not None:
            return heard
        if not radio.scan_is_deaf(self._watchdog.heard_s):
            return f"{radio.name} hears others: it is out of range or off, or its battery is empty"
        if not radio.is_deaf(self._watchdog.heard_s):
            return f"{radio.name} hears no advertisement at all, though a connection over it works"
        return self._deaf(radio) or f"{radio.name} hears nothing at all"

    def _explain_hearing(self) -> str | None:
        """Why no reading comes of a sensor that is heard; None when it is not."""
        if self._without_data:
            return (
                f"it is heard, but {self._without_data} advertisements had no {self.payload.called} in them: "
                "is that what it sends?"
            )
        now_s = self._clock.monotonic_s()
        if not self._watchdog.was_heard or self._watchdog.is_silent(now_s):
            return None
        ago = f"it was heard {self._watchdog.silent_s(now_s):.0f} s ago"
        if len(self._inbox):
            return f"{ago}, and what it said waits for the pipeline, which is too slow or stands still"
        return f"{ago}, but repeats what it said before: it measures nothing new, or hangs"

    def _deaf(self, radio: Radio) -> str | None:
        """What to do about an adapter for which the ladder could do nothing; None when it could, or has not yet."""
        if self._watchdog.rung is not Rung.ALARMED or not radio.is_deaf(self._watchdog.heard_s):
            return None
        cycled = " and it was switched off and on" if self._config.manage_adapter else ""
        return (
            f"{radio.name} hears nothing at all, though the scan was started anew{cycled}: "
            "`systemctl restart bluetooth`, or plug the adapter anew"
        )

    @property
    def remarks(self) -> Sequence[str]:
        """What people should know beside the state of the connection."""
        deaf = None if self._radio is None else self._deaf(self._radio)
        return [] if deaf is None else [deaf]

    @property
    def troubles(self) -> Mapping[str, int]:
        """How often each kind of trouble was met since this source was made."""
        return self._troubles

    async def _look_after(self, radio: Radio) -> None:
        """Take the next rung of the ladder, when it is due.

        Raises:
            ConnectionError: The scan cannot be started again, or the adapter not switched on.
        """
        now_s = self._clock.monotonic_s()
        if now_s < self._watchdog.due_s:
            return
        silent_since_s = self._watchdog.heard_s
        recently_s = now_s - self._watchdog.patience_s
        rung = self._watchdog.climb(now_s)
        if rung is Rung.RESCANNED:
            self._troubles["scanned_anew"] += 1
            await radio.rescan(recently_s)
        elif rung is Rung.CYCLED and await radio.distrust_passive(silent_since_s):
            self._troubles["scanned_actively"] += 1
        elif rung is Rung.CYCLED and radio.is_deaf(silent_since_s):
            if self._config.manage_adapter:
                self._troubles["switched_off_and_on"] += 1
                await radio.power_cycle(recently_s)
        elif (deaf := self._deaf(radio)) is not None:
            logger.error("%s: %s", self._source_id, deaf)
