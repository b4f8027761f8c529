"""Ten thousand devices come back at once: the real back-off, on a virtual clock, against a server that accepts so many connects a second."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

import pytest

from agent.spine.backoff import Backoff
from agent.sync.config import RetryConfig

DEVICES = 10_000
ACCEPTS_PER_S = 100
POLICY = RetryConfig().policy()
"""What every upstream has unless it is configured otherwise."""


@dataclass
class Fleet:
    """What happened."""

    attempts: Counter[int] = field(default_factory=Counter)
    """In each second."""
    back_s: float = 0.0
    """When the last one was back, after the server was."""

    @property
    def peak(self) -> int:
        return max(self.attempts.values())


def come_back(outage_s: float, seed: int) -> Fleet:
    """The server is away for `outage_s` from 1000 s on; all devices had a stable link. Returns what it saw after that."""
    rng = random.Random(seed)
    cut_s, back_s = 1000.0, 1000.0 + outage_s
    fleet, accepted = Fleet(), Counter[int]()
    due = []
    for number in range(DEVICES):
        backoff = Backoff(POLICY, rng)
        backoff.established(0.0)
        due.append((cut_s + backoff.delay_s(cut_s), number, backoff))
    heapify(due)
    while due:
        now_s, number, backoff = heappop(due)
        second = int(now_s)
        if now_s >= back_s:
            fleet.attempts[second] += 1
            if accepted[second] < ACCEPTS_PER_S:
                accepted[second] += 1
                fleet.back_s = now_s - back_s
                continue
        heappush(due, (now_s + backoff.delay_s(now_s), number, backoff))
    return fleet


@pytest.mark.parametrize("outage_s", [3600.0, 5.0], ids=["an hour", "a blip"])
def test_a_fleet_comes_back_without_a_stampede(outage_s: float) -> None:
    fleet = come_back(outage_s, 1)
    print(f"after {outage_s:g} s: peak {fleet.peak} connects/s, all back within {fleet.back_s:.0f} s")  # noqa: T201 (shown by pytest -s)
    assert fleet.peak <= 3 * ACCEPTS_PER_S
    assert fleet.back_s <= 600


def test_without_the_spread_of_the_first_retry_a_blip_is_a_stampede(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.POLICY", RetryConfig(first=1).policy())
    assert come_back(5.0, 1).peak > 10 * ACCEPTS_PER_S
