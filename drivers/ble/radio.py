"""One Bluetooth adapter, shared by every source of the process that uses it: one scan for all of them.

There is no task of its own behind it. What is heard arrives by callback and goes into the inboxes of the sources; the scan is
started, changed and stopped by the sources as they come and go, one at a time; and whichever source finds the silence too long
climbs the ladder, in its own task, for all. So whatever goes wrong is raised to a source that waits for it, and when the
sources end nothing is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final, Literal, Protocol

from bleak import BleakScanner
from bleak.assigned_numbers import AdvertisementDataType
from bleak.backends.bluezdbus.manager import get_global_bluez_manager
from bleak.exc import BleakDBusError, BleakError
from dbus_fast import Message

from drivers.ble.bluez import ADAPTER, BLUEZ
from drivers.ble.connections import Connections
from drivers.ble.errors import explain
from drivers.ble.scan import Scan, combined

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bleak.args.bluez import BlueZScannerArgs
    from bleak.backends.device import BLEDevice
    from bleak.backends.scanner import AdvertisementData

    from collectors.clock import Clock
    from drivers.ble.bluez import AdapterState, Bluez
    from drivers.ble.monitors import Monitors
    from drivers.ble.scan import Want

logger = logging.getLogger(__name__)

SCAN_TIMEOUT_S: Final = 10.0
"""Starting or stopping a scan takes milliseconds, unless bluetoothd hangs."""
_IN_PROGRESS: Final = "org.bluez.Error.InProgress"
NO_RSSI: Final = -127
"""What bleak gives where BlueZ has no signal strength: the callback is then not about an advertisement."""


class Listener(Protocol):
    """A source, as its radio sees it."""

    want: Want | None
    """The scan that it needs; None for none: it only wants to know when everything is lost."""

    def heard(self, device: BLEDevice, data: AdvertisementData) -> None:
        """An advertisement was heard, of anybody."""

    def lost(self, error: ConnectionError) -> None:
        """Nothing can be heard any more."""


@contextlib.asynccontextmanager
async def bluez_errors(what: str, timeout_s: float, *, slow: str | None = None) -> AsyncIterator[None]:
    """Turn what bleak raises into ConnectionError.

    Args:
        what: What was tried, for the message.
        timeout_s: How long it may take.
        slow: What a time-out means; unset, that bluetoothd does not answer.

    Raises:
        ConnectionError: bleak failed, or took longer.
    """
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except ConnectionError:
        raise
    except (BleakError, OSError, EOFError, TimeoutError) as error:
        meaning = slow if slow is not None and isinstance(error, TimeoutError) else explain(error)
        raise ConnectionError(f"{what}: {meaning}") from error


class Radio:
    """An adapter and its scan.

    Args:
        adapter: Which one.
        bluez: Knows how it is.
        monitors: Know whether a passive scan runs.
        clock: Monotonic time.

    Attributes:
        heard_s: When anything came over this adapter last (monotonic), be it over a connection.
    """

    def __init__(self, adapter: AdapterState, bluez: Bluez, monitors: Monitors, clock: Clock) -> None:
        self.path = adapter.path
        self.name = adapter.name
        self.bluez = bluez
        self.connections = Connections()
        self.heard_s = self._scan_heard_s = float("-inf")
        self._monitors = monitors
        self._clock = clock
        self._listeners: dict[Listener, None] = {}
        self._lock = asyncio.Lock()
        self._scanner: BleakScanner | None = None
        self._monitor: str | None = None
        """Of a passive scan, as `monitors` calls it."""
        self._scan: Scan | None = None
        self._broken = False
        self._cycling = False
        self._passive_works = True
        self._rescanned_s = self._cycled_s = float("-inf")

    # Sources come and go

    async def join(self, listener: Listener) -> None:
        """Let a source hear what it wants; again, when it wants something else.

        Raises:
            ConnectionError: The adapter cannot scan, or not in the way that the source wants.
        """
        async with self._lock:
            self._listeners[listener] = None
            try:
                await self._tune()
            except BaseException:
                self._listeners.pop(listener, None)
                raise

    async def leave(self, listener: Listener) -> None:
        """A source hears no more. Harmless when it never joined."""
        if listener not in self._listeners:
            return
        del self._listeners[listener]
        await self.retune()

    async def retune(self) -> None:
        """A source needs less than before. Harmless when it does not."""
        async with self._lock:
            try:
                await self._tune()
            except ConnectionError as error:  # the others' scan could not be started again
                self._lose(error)

    async def _tune(self) -> None:
        """Scan as the sources that are there want it."""
        wants = [listener.want for listener in self._listeners if listener.want is not None]
        scan = combined(wants, passive_works=self._passive_works)
        if scan == self._scan and not self._broken:
            return
        await self._stop()
        if scan is None:
            return
        trouble = self.bluez.trouble(self.name)
        if trouble is not None:  # and not ask bluetoothd: see `drivers.ble.monitors`
            raise ConnectionError(trouble)
        try:
            await self._start(scan)
        except ConnectionError as error:
            if not scan.passive or scan.passive_only or self._broken:
                raise
            logger.info("%s", error)
            self._passive_works = False
            await self._start(Scan())

    async def _start(self, scan: Scan) -> None:
        arguments: BlueZScannerArgs = {"adapter": self.name}
        if scan.passive:
            arguments["or_patterns"] = [
                (place, AdvertisementDataType(structure), content)
                for place, structure, content in scan.patterns
            ]
        kind: Literal["passive", "active"] = "passive" if scan.passive else "active"
        self._broken = False
        try:
            async with bluez_errors(f"{self.name}: no {kind} scan", SCAN_TIMEOUT_S):
                scanner = BleakScanner(self._detected, scanning_mode=kind, bluez=arguments)
                if scan.passive:
                    await self._start_passive(scanner)
                else:
                    await self._start_active(scanner)
        except BaseException:
            await self._stop()
            raise
        self._scan = scan

    async def _start_passive(self, scanner: BleakScanner) -> None:
        self._monitor = await self._monitors.start(scanner, self._ended)
        self._scanner = scanner
        if not await self._monitors.activated(self._monitor):
            raise ConnectionError(
                f"{self.name}: no passive scan: the kernel refuses the advertisement monitor"
            )

    async def _start_active(self, scanner: BleakScanner) -> None:
        try:
            await scanner.start()
        except BleakDBusError as error:
            if error.dbus_error != _IN_PROGRESS:
                raise
            await self._end_forgotten_scan()
            await scanner.start()
        self._scanner = scanner

    async def _end_forgotten_scan(self) -> None:
        """End a scan that bluetoothd still runs for us, after a request whose answer came too late to be waited for.

        The scan belongs to the connection to the bus from which it was asked for: bleak's, which has no method for this.
        """
        bus = (await get_global_bluez_manager())._bus  # noqa: SLF001 (see above)
        if bus is not None:
            stop = Message(destination=BLUEZ, path=self.path, interface=ADAPTER, member="StopDiscovery")
            await bus.call(stop)

    async def _stop(self) -> None:
        """Stop the scan, whatever state bluetoothd is in."""
        scanner, self._scanner, self._monitor, self._scan = self._scanner, None, None, None
        if scanner is None:
            return
        try:
            async with bluez_errors(f"{self.name}: the scan does not stop", SCAN_TIMEOUT_S):
                await scanner.stop()
        except ConnectionError as error:
            # It ended with bluetoothd or the adapter; where it did not, the next start says what is wrong.
            logger.debug("%s", error)

    # What happens to it

    def _detected(self, device: BLEDevice, data: AdvertisementData) -> None:
        if data.rssi == NO_RSSI:
            return  # a property such as Connected has changed: what comes with it was advertised some time ago
        self.alive()
        self._scan_heard_s = self.heard_s
        for listener in tuple(self._listeners):
            if listener.want is not None:
                listener.heard(device, data)

    def alive(self) -> None:
        """Something came over this adapter."""
        self.heard_s = self._clock.monotonic_s()

    def look(self) -> None:
        """Something has changed about bluetoothd or its adapters."""
        trouble = None if self._cycling else self.bluez.trouble(self.name)
        if trouble is not None:
            self._lose(ConnectionError(trouble))

    def _ended(self) -> None:
        """The passive scan was ended, and not by us."""
        self._lose(ConnectionError(f"{self.name}: bluetoothd has ended the passive scan"))

    def _lose(self, error: ConnectionError) -> None:
        self._broken = True
        # What comes back may be another bluetoothd, or the same with other options.
        self._passive_works = True
        if self._monitor is not None:
            self._monitors.fail(self._monitor, error)
        for listener in tuple(self._listeners):
            listener.lost(error)

    # The ladder

    def is_deaf(self, since_s: float) -> bool:
        """Whether nothing at all was heard since then: it is not just one sensor that is away."""
        return self.heard_s <= since_s

    def scan_is_deaf(self, since_s: float) -> bool:
        """Whether no advertisement was heard since then; connections may work all the same."""
        return self._scan_heard_s <= since_s

    async def rescan(self, since_s: float) -> None:
        """Stop and start the scan, unless that was done since then.

        Raises:
            ConnectionError: It cannot be started again.
        """
        async with self._lock:
            if self._rescanned_s >= since_s:
                return
            logger.info("%s: scanning anew", self.name)
            self._rescanned_s = self._clock.monotonic_s()
            await self._scan_anew()

    async def distrust_passive(self, since_s: float) -> bool:
        """Scan actively from now on, where a passive scan has heard nothing since then; whether it was one.

        Raises:
            ConnectionError: The scan cannot be started.
        """
        async with self._lock:
            if self._scan is None or not self._scan.passive or self._scan.passive_only:
                return False
            if not self.scan_is_deaf(since_s):
                return False
            logger.info("%s: scanning actively, since a passive scan hears nothing", self.name)
            self._passive_works = False
            await self._scan_anew()
            return True

    async def power_cycle(self, since_s: float) -> None:
        """Switch the adapter off and on, unless that was done since then, and scan again.

        Raises:
            ConnectionError: It does not let itself be switched.
        """
        async with self._lock:
            if self._cycled_s >= since_s:
                return
            logger.warning("%s hears nothing: switching it off and on", self.name)
            self._cycled_s = self._clock.monotonic_s()
            adapter = self.bluez.adapter(self.name)
            if adapter is None:
                raise ConnectionError(self.bluez.trouble(self.name) or f"{self.name} is away")
            self._cycling = True
            try:
                await self._stop()
                await self.bluez.set_power(adapter, on=False)
                await self.bluez.set_power(adapter, on=True)
            finally:
                self._cycling = False
            await self._scan_anew()

    async def _scan_anew(self) -> None:
        self._broken = True
        try:
            await self._tune()
        except ConnectionError as error:
            self._lose(error)
            raise
