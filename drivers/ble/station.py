"""What all Bluetooth sources of an event loop share: the watch over bluetoothd, and its adapters' radios."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from drivers.ble.bluez import Bluez
from drivers.ble.monitors import Monitors
from drivers.ble.radio import Radio

if TYPE_CHECKING:
    from collectors.clock import Clock
    from drivers.ble.bluez import AdapterState

BY_ITSELF_S: Final = 1.0
"""bluetoothd switches an adapter on by itself when it starts, or when one is plugged in (AutoEnable): that comes first."""


class Station:
    """The radios of this process, made when the first source asks for them and closed behind the last.

    Args:
        clock: Monotonic time.
    """

    def __init__(self, clock: Clock) -> None:
        self.bluez = Bluez(self._changed)
        self._monitors = Monitors()
        self._clock = clock
        self._radios: dict[str, Radio] = {}
        self._users: dict[object, None] = {}
        self._lock = asyncio.Lock()

    async def enter(self, user: object, adapter: str, *, manage: bool, wait_s: float) -> Radio:
        """The radio of an adapter, once it can be used; `leave` must follow, even after an error.

        Args:
            user: Whose it is.
            adapter: Its name or address.
            manage: Whether it may be switched on.
            wait_s: How long to wait for bluetoothd and the adapter. It goes on at once when they come.

        Raises:
            ConnectionError: It cannot be used; says why.
        """
        self._users[user] = None
        async with self._lock:
            await self.bluez.open()
        state = await self._usable(adapter, manage=manage, wait_s=wait_s)
        radio = self._radios.get(state.path)
        if radio is None:
            radio = self._radios[state.path] = Radio(state, self.bluez, self._monitors, self._clock)
        return radio

    async def _usable(self, adapter: str, *, manage: bool, wait_s: float) -> AdapterState:
        deadline_s = self._clock.monotonic_s() + wait_s
        tried: ConnectionError | None = None
        while (trouble := self.bluez.trouble(adapter)) is not None:
            state = self.bluez.adapter(adapter)
            if manage and state is not None and tried is None:
                tried = await self._switch_on(state)
            elif not await self.bluez.news(deadline_s - self._clock.monotonic_s()):
                raise tried if state is not None and tried is not None else ConnectionError(trouble)
        found = self.bluez.adapter(adapter)
        assert found is not None
        return found

    async def _switch_on(self, state: AdapterState) -> ConnectionError | None:
        """Switch an adapter on; why that was not possible."""
        await self.bluez.news(BY_ITSELF_S)
        if not state.powered:
            try:
                await self.bluez.set_power(state, on=True)
            except ConnectionError as error:
                return error
        return None

    async def leave(self, user: object) -> None:
        """A source needs nothing any more. Harmless when it never came."""
        self._users.pop(user, None)
        if not self._users:
            async with self._lock:
                if not self._users:  # nobody came meanwhile
                    await self.bluez.close()

    def _changed(self) -> None:
        for radio in self._radios.values():
            radio.look()


_stations: WeakKeyDictionary[asyncio.AbstractEventLoop, Station] = WeakKeyDictionary()


def station(clock: Clock) -> Station:
    """The station of the running event loop."""
    loop = asyncio.get_running_loop()
    found = _stations.get(loop)
    if found is None:
        found = _stations[loop] = Station(clock)
    return found
