"""A link and a server on a virtual clock, and a sender that has nothing but the schedule: how lanes share a link.

Messages leave when the schedule says so, wait for the bottleneck one after the other, and are acknowledged a round
trip after they have passed it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING

from agent.sync.lanes import LANES, SendLane

if TYPE_CHECKING:
    from collections.abc import Iterable

    from agent.sync.limits import Load
    from agent.sync.schedule import Schedule


@dataclass(frozen=True)
class Message:
    lane: SendLane
    load: Load
    ready_s: float
    number: int


@dataclass(frozen=True)
class Passage:
    """One message's way: when it left, and when it was at the other end."""

    message: Message
    sent_s: float
    arrived_s: float


@dataclass
class VirtualLink:
    """`messages` become ready at their times; `run` gives what happened to them, in the order of leaving."""

    schedule: Schedule
    bytes_s: float = inf
    round_trip_s: float = 0.05
    in_flight_max: int = 20
    now_s: float = 1000.0
    passages: list[Passage] = field(default_factory=list)

    def run(self, messages: Iterable[Message], until_s: float = inf) -> list[Passage]:
        waiting: dict[SendLane, list[Message]] = {lane: [] for lane in LANES}
        ready = sorted(messages, key=lambda message: (message.ready_s, message.number), reverse=True)
        acks: list[tuple[float, int, Passage]] = []
        serial, free_s, in_flight, opened = count(), self.now_s, 0, False
        while (ready or acks or any(waiting.values())) and self.now_s <= until_s:
            while ready and ready[-1].ready_s <= self.now_s:
                message = ready.pop()
                waiting[message.lane].append(message)
            while acks and acks[0][0] <= self.now_s:
                _, _, done = heappop(acks)
                in_flight -= 1
                opened = True
                self.schedule.acknowledged(self.now_s, done.message.lane, done.message.load, done.sent_s)
            heads = {lane: queue[0].load for lane, queue in waiting.items() if queue}
            window = self.in_flight_max if opened else 1  # the sender opens it at the first acknowledgement
            lane, wait_s = self.schedule.choose(self.now_s, heads, window)
            if lane is not None:
                assert in_flight < self.in_flight_max
                in_flight += 1
                message = waiting[lane].pop(0)
                self.schedule.sent(self.now_s, lane, message.load, heads)
                free_s = max(free_s, self.now_s) + message.load.size_bytes / self.bytes_s
                passage = Passage(message, self.now_s, free_s + self.round_trip_s / 2)
                self.passages.append(passage)
                heappush(acks, (free_s + self.round_trip_s, next(serial), passage))
                continue
            next_s = min(
                self.now_s + wait_s,
                ready[-1].ready_s if ready else inf,
                acks[0][0] if acks else inf,
            )
            assert next_s < inf or not heads, "stuck"
            self.now_s = max(next_s, self.now_s + 1e-9)
        return self.passages
