"""Asks a device on a schedule, and gives out whatever it says.

A request is answered by the first good frame behind it. Whatever else comes, before a request or after its time, is
given out as well: a late answer is a good reading, too. While the device is in the middle of one it is not asked: an
answer of 123.4 that is given up after its second digit would leave 3.4, which looks as good.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from drivers.framing import FrameError
from drivers.serial.trouble import PortError, TroubleKind

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from collectors.clock import Clock
    from drivers.framing import FramingConfig
    from drivers.serial.link import Arrival, SerialLink
    from drivers.serial.poll_config import PollConfig

UNANSWERED_MAX: Final = 3
"""Requests in a row, with all their repetitions; then the port is opened anew."""

_NS: Final = 1_000_000_000


def next_due(due_ns: int, interval_ns: int, now_ns: int) -> int:
    """The next time on a schedule that does not drift; times that have passed are left out."""
    due_ns += interval_ns
    if due_ns < now_ns:
        due_ns += (now_ns - due_ns + interval_ns - 1) // interval_ns * interval_ns
    return due_ns


class Poller:
    """The requests of one source, over all its connections.

    Args:
        config: What to ask, and how often.
        framing: For requests that are frames.
        name: The port, for messages.
        clock: The time.
    """

    def __init__(self, config: PollConfig, framing: FramingConfig, name: str, clock: Clock) -> None:
        self._config = config
        self._framing = framing
        self._name = name
        self._clock = clock
        self._number = 0
        self.unanswered = 0
        """Requests in a row without an answer."""

    async def arrivals(self, link: SerialLink) -> AsyncGenerator[Arrival, None]:
        """Everything that the device says, asked or not.

        Raises:
            ConnectionError: The connection was lost, or several requests in a row had no answer.
        """
        self.unanswered = 0
        interval_ns = round(self._config.interval * _NS)
        due_ns = max(self._clock.boottime_ns(), link.settled_ns)
        while True:
            while (arrival := await link.arrival_until(due_ns)) is not None:
                yield arrival
            async for arrival in self.answers(link):
                yield arrival
            if self.unanswered >= UNANSWERED_MAX:
                raise PortError(
                    TroubleKind.NO_ANSWER,
                    f"{self._name}: {UNANSWERED_MAX} requests in a row without an answer: is the device on, and is"
                    " the request right?",
                )
            due_ns = next_due(due_ns, interval_ns, self._clock.boottime_ns())

    async def answers(self, link: SerialLink) -> AsyncGenerator[Arrival, None]:
        """Ask once, and again if need be: what came, up to the first good frame.

        Raises:
            ConnectionError: The connection was lost, or the device does not take the request.
        """
        self._number += 1
        timeout_ns = round(self._config.timeout * _NS)
        for attempt in range(1 + self._config.retries):
            limit_ns = self._clock.boottime_ns() + timeout_ns
            while (arrival := await self._rest(link, limit_ns)) is not None:
                yield arrival
                if attempt and not isinstance(arrival.frame, FrameError):
                    self.unanswered = 0
                    return
            for unasked in link.end_frame():  # what is not complete by now is part of no answer to this
                yield unasked
            self._send(link)
            deadline_ns = self._clock.boottime_ns() + timeout_ns
            while (arrival := await link.arrival_until(deadline_ns)) is not None:
                yield arrival
                if not isinstance(arrival.frame, FrameError):
                    self.unanswered = 0
                    return
        self.unanswered += 1

    async def _rest(self, link: SerialLink, limit_ns: int) -> Arrival | None:
        """What comes of a frame that the device has begun; None when it says nothing more, or never stops."""
        while (until_ns := link.speaks_until_ns) is not None and self._clock.boottime_ns() < limit_ns:
            arrival = await link.arrival_until(min(until_ns, limit_ns))
            if arrival is not None:
                return arrival
        return None

    def _send(self, link: SerialLink) -> None:
        request = self._config.render(self._number, self._clock.now(), self._framing)
        if not link.write(request) and link.is_open:
            raise PortError(
                TroubleKind.STUCK,
                f"{self._name}: the device does not take what is sent: is the flow control right?",
            )
