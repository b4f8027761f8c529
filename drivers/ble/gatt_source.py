"""A sensor that is connected to, as a data source: what it notifies, and what it answers when it is asked."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from collectors.interfaces import IDataSource
from collectors.metadata_keys import FRAME_ERROR, QUALITY, TAGS, UP_NS
from collectors.models import CollectedData
from drivers.ble.config import GATT
from drivers.ble.gatt_link import GattLink, ReadRefused, connected_device, first_heard
from drivers.ble.inbox import Inbox
from drivers.ble.scan import Want
from drivers.ble.source import PATIENT_S
from drivers.ble.station import station
from drivers.ble.watchdog import PATIENCE_MOST_S, PAUSE_MOST_S, Watchdog
from drivers.codecs.bluetooth_uuid import shown_uuid
from drivers.codecs.gatt import encode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence
    from datetime import datetime

    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

    from collectors.clock import Clock
    from drivers.ble.config import GattConfig
    from drivers.ble.radio import Radio

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 10_000
"""Notifications that may wait for the pipeline. A sensor cannot be told to wait."""
HOLD_MOST_S: Final = 30.0
"""A connection costs the sensor's battery: between readings that are further apart it is let go."""
REFUSALS_MOST: Final = 3
"""So many times in a row a sensor may refuse to be read before it is connected to anew."""
FRUITLESS_MOST: Final = 16
"""Doublings beyond this only make huge numbers."""
RSSI_AGE_MOST_S: Final = 60.0
"""How old a signal strength, which only an advertisement has, may be to say something about a value."""


class Value(NamedTuple):
    """What came from the sensor at one time, or why nothing did."""

    raw: bytes
    characteristic: str | None
    refusal: str | None
    timestamp: datetime
    up_ns: int


class GattSource(IDataSource):
    """The characteristics of one sensor.

    It is connected to only once it was heard, so a sensor that is away keeps nobody waiting. A connection that ends is not made
    anew here, except between readings: whoever collects decides when to connect again.

    Args:
        source_id: The unique identifier of this source.
        config: The sensor and its characteristics.
        data_format: The codec that can decode the values. `gatt` gets each with its UUID, all that were read together in one
            frame; any other one gets the value alone.
        clock: Stamps what arrives.
    """

    def __init__(self, source_id: str, config: GattConfig, *, data_format: str, clock: Clock) -> None:
        config.check_codec(data_format)
        self.want: Want | None = None
        self._source_id = source_id
        self._config = config
        self._data_format = data_format
        self._clock = clock
        self._radio: Radio | None = None
        self._link: GattLink | None = None
        self._inbox: Inbox[Value] = Inbox(WAITING_MAX)
        self._watchdog = Watchdog(clock.monotonic_s(), config.silent_after)
        self._found: asyncio.Future[BLEDevice] | None = None
        self._opening: asyncio.Timeout | None = None
        """Ends the attempt to connect that is under way."""
        self._rssi: tuple[float, float] | None = None
        self._troubles: Counter[str] = Counter()
        self._due_s: float | None = None
        self._refusals = 0
        self._quiet_s = clock.monotonic_s()
        """Since when it neither notified nor was asked."""
        self._fruitless = 0
        """Connections made anew because of silence, since a notification came."""
        self._sought_s: float | None = None
        """Since when the sensor is sought in vain."""
        self._patient_s = 0.0

    def get_source_id(self) -> str:
        """The unique identifier of this source."""
        return self._source_id

    async def connect(self) -> None:
        """Connect to the sensor, and let it notify. Harmless when connected.

        Raises:
            ConnectionError: That is not possible; the message says why and what would help.
        """
        if self._radio is not None and not self._inbox.failed:
            return
        await self.disconnect()
        patient_s, self._patient_s = self._patient_s, PATIENT_S
        here = station(self._clock)
        try:
            radio = await here.enter(
                self, self._config.adapter, manage=self._config.manage_adapter, wait_s=patient_s
            )
            self._inbox = Inbox(WAITING_MAX)
            self._radio = radio
            await radio.join(self)
            await self._open(radio)
        except BaseException:
            await self.disconnect()
            await here.leave(self)
            raise
        now_s = self._quiet_s = self._clock.monotonic_s()
        self._watchdog.listen(now_s)
        self._refusals = 0
        self._patient_s = 0.0
        if self._config.read and self._due_s is None:
            self._due_s = now_s

    async def _open(self, radio: Radio) -> None:
        """Find the sensor and connect, unless bluetoothd or the adapter is lost meanwhile: then no answer may ever come.

        Raises:
            ConnectionError: That is not possible.
        """
        try:
            async with asyncio.timeout(None) as self._opening:
                await self._find_and_connect(radio)
        except TimeoutError:
            self._inbox.raise_failure()
            raise
        finally:
            self._opening = None

    async def _find_and_connect(self, radio: Radio) -> None:
        link = GattLink(radio, self._config, self._ended)
        try:
            device = await self._find(radio)
            await link.open(device)
        finally:
            self.want = None
            await radio.retune()
        self._link = link
        for uuid in self._config.notify:
            await link.subscribe(uuid, self._notified)

    async def _find(self, radio: Radio) -> BLEDevice:
        """The sensor, as soon as it is heard; at once, when a connection to it has outlived an earlier run of ours.

        Raises:
            ConnectionError: It is not heard.
        """
        address = self._config.address
        details = await radio.bluez.connected_device(radio.path, address)
        if details is not None:
            return connected_device(address, details)
        began_s = self._clock.monotonic_s()
        self._found = asyncio.get_running_loop().create_future()
        self.want = Want("auto")
        try:
            await radio.join(self)
            device = await first_heard(self._found, address, PATIENT_S)
        except ConnectionError:
            self._sought_s = began_s if self._sought_s is None else self._sought_s
            await self._look_after_radio(radio, self._sought_s)
            raise
        finally:
            self._found = None
        self._sought_s = None
        return device

    async def _look_after_radio(self, radio: Radio, since_s: float) -> None:
        now_s = self._clock.monotonic_s()
        if self._config.manage_adapter and now_s - since_s >= PATIENCE_MOST_S and radio.is_deaf(since_s):
            await radio.power_cycle(now_s - PAUSE_MOST_S)

    async def disconnect(self) -> None:
        """End the connection. Harmless after a failed or missing connect.

        Raises:
            ConnectionError: bluetoothd does not end it.
        """
        radio, self._radio = self._radio, None
        link, self._link = self._link, None
        self._inbox.fail(ConnectionError(f"{self._source_id}: disconnected"))
        if radio is not None:
            try:
                if link is not None:
                    await link.close()
            finally:
                await radio.leave(self)
                await station(self._clock).leave(self)

    async def collect(self) -> CollectedData:
        """The next value; waits for it, and asks for those that are read when it is time.

        Raises:
            ConnectionError: The source is not connected, or the connection has ended.
        """
        radio = self._radio
        if radio is None:
            raise ConnectionError(f"the GATT source {self._source_id!r} is not connected")
        while True:
            try:
                async with asyncio.timeout(max(0.0, self._next_s() - self._clock.monotonic_s())):
                    return self._collected(await self._inbox.get())
            except TimeoutError:
                await self._attend(radio)

    async def collect_stream(self) -> AsyncIterator[CollectedData]:
        """Values as they come.

        Raises:
            ConnectionError: The source is not connected, or the connection has ended.
        """
        while True:
            yield await self.collect()

    def _collected(self, value: Value) -> CollectedData:
        metadata: dict[str, Any] = {UP_NS: value.up_ns}
        if value.refusal is not None:
            metadata[FRAME_ERROR] = value.refusal
        if value.characteristic is not None and len(self._config.notify) + len(self._config.read) > 1:
            metadata[TAGS] = {"characteristic": value.characteristic}
        if self._rssi is not None and self._clock.monotonic_s() - self._rssi[1] <= RSSI_AGE_MOST_S:
            metadata[QUALITY] = {"rssi_dbm": self._rssi[0]}
        return CollectedData(
            source_id=self._source_id,
            timestamp=value.timestamp,
            data_format=self._data_format,
            collection_method="gatt",
            raw_data=value.raw,
            metadata=metadata,
        )

    # What comes

    def heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        """An advertisement was heard, of anybody."""
        if device.address.upper() == self._config.address:
            self._rssi = (float(data.rssi), self._clock.monotonic_s())
            if self._found is not None and not self._found.done():
                self._found.set_result(device)

    def lost(self, error: ConnectionError) -> None:
        """No bluetoothd or no adapter any more: no connection either, whatever bleak says."""
        self._inbox.fail(error)
        if self._opening is not None and self._opening.when() is None:  # else it is ending already
            self._opening.reschedule(asyncio.get_running_loop().time())

    def _ended(self) -> None:
        self._inbox.fail(ConnectionError(f"{self._config.address}: the connection ended"))

    def _notified(self, uuid: str, value: bytes) -> None:
        if self._radio is not None:
            self._radio.alive()
        self._quiet_s = self._clock.monotonic_s()
        self._watchdog.heard(self._quiet_s)
        self._fruitless = 0
        self._take([(uuid, value)])

    def _take(self, values: Sequence[tuple[str, bytes]]) -> None:
        now, up_ns = self._clock.now(), self._clock.boottime_ns()
        if self._data_format == GATT:
            items = [Value(encode(values), None, None, now, up_ns)]
        else:
            items = [Value(value, shown_uuid(uuid), None, now, up_ns) for uuid, value in values]
        for item in items:
            if not self._inbox.put(item):
                self._troubles["no_room"] += 1
                if self._inbox.lost == 1:
                    logger.warning("%s: the pipeline is too slow: values are lost", self._source_id)

    # Silence

    def usual_silence_s(self) -> float | None:
        """How long no value may come, once it is known how often the sensor notifies."""
        if not self._config.notify or not self._watchdog.knows:
            return None
        return self._watchdog.explained_s

    def explain_silence(self) -> str:
        """What may be behind it."""
        return "it is connected and answers, but notifies nothing" if self._link is not None else ""

    @property
    def troubles(self) -> Mapping[str, int]:
        """How often each kind of trouble was met since this source was made."""
        return self._troubles

    # What is asked for

    def _next_s(self) -> float:
        """When there is something to do."""
        due_s = float("inf") if self._due_s is None else self._due_s
        if self._config.notify:
            due_s = min(due_s, self._silence_due_s)
        return due_s

    @property
    def _silence_due_s(self) -> float:
        patience_s = self._watchdog.patience_s
        return self._quiet_s + min(patience_s * 2.0**self._fruitless, max(PAUSE_MOST_S, patience_s))

    async def _attend(self, radio: Radio) -> None:
        now_s = self._clock.monotonic_s()
        if self._due_s is not None and now_s >= self._due_s:
            self._due_s += self._config.interval
            if self._due_s <= now_s:  # too slow: leave out what was missed
                self._due_s += (now_s - self._due_s) // self._config.interval * self._config.interval
                self._due_s += self._config.interval
            await self._read(radio)
        elif self._config.notify and now_s >= self._silence_due_s:
            await self._ask(now_s)

    async def _read(self, radio: Radio) -> None:
        """Ask for everything that is to be read; connect for it, if need be."""
        if self._link is None or not self._link.is_open:
            await self._open(radio)
        link = self._link
        assert link is not None
        try:
            values = [(uuid, value) for uuid in self._config.read for value in await link.read(uuid)]
        except ReadRefused as refusal:
            self._refused(refusal)
        else:
            self._refusals = 0
            self._take(values)
        if not self._config.notify and (self._config.interval > HOLD_MOST_S or radio.connections.contended):
            self._link = None
            await link.close()

    def _refused(self, refusal: ReadRefused) -> None:
        self._refusals += 1
        self._troubles["refused"] += 1
        if self._refusals >= REFUSALS_MOST:
            raise ConnectionError(f"{refusal} ({self._refusals} times in a row)") from refusal
        self._inbox.put(Value(b"", None, str(refusal), self._clock.now(), self._clock.boottime_ns()))

    async def _ask(self, now_s: float) -> None:
        """There was no notification for too long: does the sensor still answer?

        Raises:
            ConnectionError: It does not, or there is no way to know.
        """
        link = self._link
        assert link is not None
        self._quiet_s = now_s
        answers = await link.answers()
        if answers:
            return
        self._fruitless = min(self._fruitless + 1, FRUITLESS_MOST)
        self._troubles["connected_anew"] += 1
        why = (
            "and it does not answer"
            if answers is False
            else "and there is nothing that it could be asked for"
        )
        silent_s = self._watchdog.silent_s(now_s)
        raise ConnectionError(
            f"{self._config.address}: no notification for {silent_s:.0f} s, {why}: connecting anew"
        )
