"""Which advertisements are repetitions: a sensor says each measurement many times, and it is one reading.

Two kinds of sensors are told apart.

**Numbered**: the data holds a number that changes with every measurement (BTHome's packet id, the counter of an encrypted
payload, a sequence number). Then the same data is the same reading, whenever it comes: also what the air, or BlueZ's memory of
a device, brings again after something newer. The last `REMEMBERED` are remembered, fewer than a one-byte number has values.

**Not numbered**: equal data says either 'again' or 'measured anew, and nothing has changed', and only time can tell. So it is a
repetition as long as it is the sensor's latest, and younger than the window: the sensor's own time between measurements.
Where nobody says what that is, it is learned: each change of the data is a new measurement, so the time between changes is a
multiple of it, and the shorter ones of the latest times are about the time itself. Until it is known, a minute. A wrong window
costs or adds readings that say the same as the one before, never a changed value.

What was heard can be written down and taken up again, so that a sensor that repeats a numbered measurement while the agent is
restarted has said it once.
"""

from __future__ import annotations

import re
from collections import OrderedDict, deque
from hashlib import blake2b
from typing import Final

REMEMBERED: Final = 32
WINDOW_UNKNOWN_S: Final = 60.0
WINDOW_LEAST_S: Final = 1.0
WINDOW_MOST_S: Final = 3600.0
CHANGES: Final = 16
"""Times between changes that a sensor's rate is learned from."""
CHANGES_ENOUGH: Final = 4
SENSORS_MAX: Final = 1024
"""Addresses that are remembered at a time: some senders take a new one every quarter of an hour."""

NOTED_MAX: Final = 4
NOTED_SENSORS_MAX: Final = 64
"""What is written down: of so many sensors so much."""
DIGEST_BYTES: Final = 8
_DIGEST: Final = re.compile(r"[0-9a-f]{16}")


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=DIGEST_BYTES).digest()


def _is_digest(text: object) -> bool:
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


class _Sensor:
    """What is remembered of one address."""

    __slots__ = ("changed_s", "gaps_s", "kept_s", "latest", "recent")

    def __init__(self) -> None:
        self.recent: deque[bytes] = deque(maxlen=REMEMBERED)
        """Digests of the data."""
        self.latest: bytes | None = None
        self.kept_s = 0.0
        self.changed_s: float | None = None
        self.gaps_s: deque[float] = deque(maxlen=CHANGES)

    def window_s(self) -> float:
        """The time between two measurements, as far as it is known."""
        if len(self.gaps_s) < CHANGES_ENOUGH:
            return WINDOW_UNKNOWN_S
        short = sorted(self.gaps_s)[len(self.gaps_s) // 4]
        return min(max(short, WINDOW_LEAST_S), WINDOW_MOST_S)


class Repeats:
    """Tells new readings from repetitions, for every sensor that a source hears.

    Args:
        interval_s: The sensors' time between two measurements; None to learn it.

    Attributes:
        repeated: Repetitions so far.
    """

    def __init__(self, interval_s: float | None = None) -> None:
        self.repeated = 0
        self._interval_s = interval_s
        self._sensors: OrderedDict[str, _Sensor] = OrderedDict()

    def is_new(self, address: str, data: bytes, now_s: float, *, numbered: bool) -> bool:
        """Whether this is a reading of its own, at this monotonic time."""
        sensor = self._sensor(address)
        digest = _digest(data)
        new = digest not in sensor.recent if numbered else self._is_new_by_time(sensor, data, now_s)
        if not new:
            self.repeated += 1
            return False
        sensor.recent.append(digest)
        sensor.kept_s = now_s
        if data != sensor.latest:
            sensor.latest = data
            if sensor.changed_s is not None:
                sensor.gaps_s.append(now_s - sensor.changed_s)
            sensor.changed_s = now_s
        return True

    def forget(self, address: str, data: bytes) -> None:
        """A reading did not get to where it is kept: it may come again."""
        sensor, digest = self._sensor(address), _digest(data)
        if digest in sensor.recent:
            sensor.recent.remove(digest)
        if sensor.latest == data:
            sensor.latest = None

    def notes(self) -> dict[str, list[str]]:
        """What to know after a restart: digests of each sensor's newest data, for the sensors heard last."""
        newest = list(self._sensors.items())[-NOTED_SENSORS_MAX:]
        return {
            address: [digest.hex() for digest in list(sensor.recent)[-NOTED_MAX:]]
            for address, sensor in newest
            if sensor.recent
        }

    def take_up(self, notes: object) -> None:
        """Go on where `notes` were written; anything else is passed over."""
        if not isinstance(notes, dict):
            return
        for address, digests in list(notes.items())[-NOTED_SENSORS_MAX:]:
            if isinstance(address, str) and isinstance(digests, list):
                known = [bytes.fromhex(one) for one in digests if _is_digest(one)]
                sensor = self._sensor(address)
                sensor.recent = deque(
                    [*known, *sensor.recent], maxlen=REMEMBERED
                )  # what was heard since is newer

    def _is_new_by_time(self, sensor: _Sensor, data: bytes, now_s: float) -> bool:
        if data != sensor.latest:
            return True
        window_s = sensor.window_s() if self._interval_s is None else self._interval_s
        return now_s - sensor.kept_s >= window_s

    def _sensor(self, address: str) -> _Sensor:
        sensor = self._sensors.get(address)
        if sensor is None:
            sensor = self._sensors[address] = _Sensor()
            if len(self._sensors) > SENSORS_MAX:
                self._sensors.popitem(last=False)
        else:
            self._sensors.move_to_end(address)
        return sensor
