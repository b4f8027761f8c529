"""Storing readings durably costs little more than only receiving them: the benchmark, small."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from benchmarks.mqtt_intake import Agent, bare, publish
from tests.rigs.mosquitto import BrokerSettings, Mosquitto

if TYPE_CHECKING:
    from pathlib import Path

MESSAGES = 10_000
LEAST = 0.6


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_storing_keeps_up_with_a_bare_subscriber(tmp_path: Path):
    """By CPU time, which a busy machine changes less than the rate; both ways keep one core busy."""
    with Mosquitto(BrokerSettings(max_inflight_messages=1000)) as broker:
        agent = Agent(tmp_path, broker.port)
        agent.subscribe()
        bare(broker.port, 0)
        publish(broker.port, MESSAGES)
        bare_rate, bare_us = bare(broker.port, MESSAGES)
        stored_rate, stored_us = agent.take(MESSAGES)
    print(  # noqa: T201 (shown by pytest -s)
        f"bare {bare_rate:,.0f}/s at {bare_us:.0f} us, stored {stored_rate:,.0f}/s at {stored_us:.0f} us;"
        f" load {os.getloadavg()[0]:.1f}"
    )
    assert bare_us / stored_us >= LEAST
