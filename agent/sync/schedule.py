"""Which lane may send next, and when. Pure: what waits, what came back and the time are given.

Rules:

1. Alarms go before live readings, live readings before the backlog.
2. None starves: whatever goes ahead of a waiting lane earns it credit, a tenth of the bytes for live readings, `share_min`
   for the backlog. Credit for a whole message puts that one first; the double of it, even if all have to wait for
   room under a limit.
3. No limit of the other end is exceeded. When the first in rank has to wait for one, none overtakes it. While live
   readings flow, the backlog leaves a quarter of each limit, and of the places in flight, to them.
4. While live readings flow, the backlog has a part of the link, `share`, by a token bucket; else it may have
   all of it. What is on its way of it never takes longer than the round trip and a quarter of a second, so that
   whatever comes after it finds a short queue.
5. The backlog yields (AIMD): when the other end is overloaded (429, time-outs) or round trips grow, its pace is
   halved, at most once a second; it grows again by a twentieth a second. It never falls below `share_min`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final

from agent.sync.lanes import LANES, SendLane
from agent.sync.limits import Limit, SlidingLimits
from agent.sync.link import LinkEstimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from agent.sync.limits import Load

LIVE_S: Final = 5.0
"""So long after one of them, live readings are said to flow."""
QUEUE_S: Final = 0.25
"""So much of the link's time may be filled with backlog beyond a round trip."""
SLOW_S: Final = 0.75
"""A round trip longer by so much means that the backlog is in the way."""
_LIVE_SHARE_MIN: Final = 0.1
_LEFT_TO_BACKLOG: Final = 0.75
_BURST_S: Final = 0.5
_PAIR_S: Final = 1.0
"""Two messages may be on their way, so that the link can be measured, if they take it no longer than so."""
_WINDOW_UNKNOWN_BYTES: Final = 64 * 1024
_HALVED_AGAIN_S: Final = 1.0
_GROWTH_PER_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class SchedulePolicy:
    """The numbers of a schedule."""

    share: float = 0.25
    """The backlog's part of the link while live readings flow."""
    share_min: float = 0.05
    """What it has in any case, of the link, and of what is sent."""
    limits: Sequence[Limit] = ()

    def __post_init__(self) -> None:
        if not 0 < self.share_min <= self.share <= 1:
            raise ValueError("0 < share_min <= share <= 1 must hold")


class Schedule:
    """The state of one upstream's schedule.

    Attributes:
        hurry: The program ends: the backlog needs to leave nothing to others, but for the limits.
    """

    def __init__(self, policy: SchedulePolicy) -> None:
        self.hurry = False
        self._policy = policy
        self._limits = SlidingLimits(policy.limits)
        self._link = LinkEstimate()
        self._shares = {SendLane.LIVE: _LIVE_SHARE_MIN, SendLane.BACKFILL: policy.share_min}
        self._credit = dict.fromkeys(self._shares, 0.0)
        self._in_flight_bytes = dict.fromkeys(LANES, 0)
        self._in_flight = dict.fromkeys(LANES, 0)
        self._live_at_s = -inf
        self._pace = 1.0
        self._pace_at_s = 0.0
        self._halved_at_s = -inf
        self._tokens = 0.0
        self._refilling = False
        self._paused = False
        """Since the last message there was nothing to send, or the backlog held itself back."""
        self._tokens_at_s = 0.0

    @property
    def pace(self) -> float:
        """How much of its part the backlog uses, after what went wrong; 1 is all."""
        return self._pace

    # Deciding

    def choose(
        self, now_s: float, heads: Mapping[SendLane, Load], in_flight_max: int
    ) -> tuple[SendLane | None, float]:
        """Which lane's first message may go now, or how long until one may.

        Args:
            now_s: A monotonic time.
            heads: What is first in each lane that has something.
            in_flight_max: How many messages the other end takes at once.

        Returns:
            The lane and 0; or None and the time to wait, infinite when only an acknowledgement helps.
        """
        wait_s = inf
        self._paused |= not heads
        if sum(self._in_flight.values()) >= in_flight_max:
            return None, wait_s
        for lane in self._in_order(heads):
            load = heads[lane]
            own_s = self._own_wait_s(now_s, lane, load, in_flight_max)
            if own_s > 0:
                wait_s = min(wait_s, own_s)
                continue
            left_s = self._limits.wait_s(now_s, load, self._part(now_s, lane, load))
            if left_s <= 0:
                return lane, 0.0
            wait_s = min(wait_s, left_s)
            if not self._earned(lane, load) or self._earned(lane, load, 2):
                return None, wait_s  # none overtakes what waits for room
        return None, wait_s

    def _in_order(self, heads: Mapping[SendLane, Load]) -> list[SendLane]:
        """By rank, but those first that have been passed over long enough; the lowest of them first."""
        due = [lane for lane in reversed(LANES) if lane in heads and self._earned(lane, heads[lane])]
        return due + [lane for lane in LANES if lane in heads and lane not in due]

    def _earned(self, lane: SendLane, load: Load, times: int = 1) -> bool:
        return lane in self._credit and self._credit[lane] >= times * load.size_bytes

    def _part(self, now_s: float, lane: SendLane, load: Load) -> float:
        """How much of a limit a lane may use."""
        free = lane is not SendLane.BACKFILL or self._earned(lane, load) or not self._live_flows(now_s)
        return 1.0 if free else _LEFT_TO_BACKLOG

    def _live_flows(self, now_s: float) -> bool:
        return not self.hurry and now_s - self._live_at_s <= LIVE_S

    def _own_wait_s(self, now_s: float, lane: SendLane, load: Load, in_flight_max: int) -> float:
        """How long a lane holds itself back, whatever the limits say."""
        if lane is not SendLane.BACKFILL or self._earned(lane, load):
            return 0.0
        if self._in_flight[lane] and not self.hurry:
            places = in_flight_max - in_flight_max // 4 if self._live_flows(now_s) else in_flight_max
            if sum(self._in_flight.values()) >= places:
                return inf
            if self._in_flight_bytes[lane] + load.size_bytes > self._window_bytes(load):
                return inf
        rate = self._rate_bytes_s(now_s)
        if rate is None:
            return 0.0
        return self._bucket_wait_s(now_s, rate, load)

    def _window_bytes(self, load: Load) -> float:
        """How much of the backlog may be on its way."""
        bandwidth, round_trip_s = self._link.bandwidth_bytes_s, self._link.round_trip_s
        if bandwidth is None or round_trip_s == inf:
            return _WINDOW_UNKNOWN_BYTES
        a_pair = min(2.0 * load.size_bytes, bandwidth * (round_trip_s + _PAIR_S))
        return max(a_pair, bandwidth * (round_trip_s + QUEUE_S) * self._pace)

    def _rate_bytes_s(self, now_s: float) -> float | None:
        """The rate of the token bucket; None while there is none."""
        bandwidth = self._link.bandwidth_bytes_s
        if bandwidth is None or self.hurry:
            return None
        self._recover(now_s)
        if self._live_flows(now_s):
            return bandwidth * max(self._policy.share * self._pace, self._policy.share_min)
        return None if self._pace == 1 else bandwidth * self._pace

    def _bucket_wait_s(self, now_s: float, rate: float, load: Load) -> float:
        """How long until there are tokens.

        An empty bucket is filled before it is used: only what leaves at once shows how much the link carries.
        """
        most = max(2.0 * load.size_bytes, rate * _BURST_S)
        self._tokens = min(most, self._tokens + rate * max(0.0, now_s - self._tokens_at_s))
        self._tokens_at_s = now_s
        if self._tokens <= 0:
            self._refilling = True
        elif self._tokens >= most * 0.999:
            self._refilling = False
        if not self._refilling:
            return 0.0
        self._paused = True
        return (most - self._tokens) / rate

    def _recover(self, now_s: float) -> None:
        grown = self._pace + _GROWTH_PER_S * max(0.0, now_s - self._pace_at_s)
        self._pace, self._pace_at_s = min(1.0, grown), now_s

    # What happens

    def sent(self, now_s: float, lane: SendLane, load: Load, waiting: Mapping[SendLane, Load]) -> None:
        """A lane's first message leaves now; `waiting` is what was first in each lane."""
        self._limits.add(now_s, load)
        self._link.sent(now_s, after_pause=self._paused)
        self._paused = False
        self._in_flight[lane] += 1
        self._in_flight_bytes[lane] += load.size_bytes
        if lane is SendLane.BACKFILL:
            self._tokens -= load.size_bytes
        else:
            self._live_at_s = now_s
        for lower, share in self._shares.items():
            if lower not in waiting:
                self._credit[lower] = 0.0
            elif lower is lane:
                self._credit[lower] = max(0.0, self._credit[lower] - load.size_bytes)
            elif LANES.index(lane) < LANES.index(lower):
                most = 3.0 * waiting[lower].size_bytes
                self._credit[lower] = min(most, self._credit[lower] + share * load.size_bytes)

    def beside_wait_s(self, now_s: float, load: Load) -> float:
        """How long until something that is in no lane may be sent; 0 now."""
        return self._limits.wait_s(now_s, load, _LEFT_TO_BACKLOG)

    def beside(self, now_s: float, load: Load) -> None:
        """Something that is in no lane leaves now."""
        self._limits.add(now_s, load)

    def acknowledged(self, now_s: float, lane: SendLane, load: Load, sent_s: float) -> None:
        """A message was acknowledged."""
        self._left(lane, load)
        self._link.acknowledged(now_s, load.size_bytes, sent_s)
        if now_s - sent_s > self._link.round_trip_s + SLOW_S and sent_s >= self._halved_at_s:
            self.overloaded(now_s)

    def failed(self, lane: SendLane, load: Load) -> None:
        """A message came to nothing; it will be sent again."""
        self._left(lane, load)
        self._link.ended()

    def overloaded(self, now_s: float) -> None:
        """The other end or the link cannot keep up."""
        if now_s - self._halved_at_s >= _HALVED_AGAIN_S:
            self._recover(now_s)
            self._pace = max(self._policy.share_min, self._pace / 2)
            self._halved_at_s = now_s

    def link_lost(self) -> None:
        """Nothing is on its way any more."""
        self._in_flight = dict.fromkeys(LANES, 0)
        self._in_flight_bytes = dict.fromkeys(LANES, 0)
        self._link.cut()

    def _left(self, lane: SendLane, load: Load) -> None:
        self._in_flight[lane] = max(0, self._in_flight[lane] - 1)
        self._in_flight_bytes[lane] = max(0, self._in_flight_bytes[lane] - load.size_bytes)
