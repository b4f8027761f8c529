"""Signals: pure generators of values, the same for the same seed."""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, TypeAlias

from drivers.simulated.config import Constant, Counter, RandomWalk, Sine, Square

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from drivers.simulated.config import Signal

Value: TypeAlias = bool | int | float | str


def readings(signals: Sequence[Signal], *, rate_hz: float, seed: int) -> Iterator[dict[str, Value]]:
    """The values of one reading after another, without end."""
    streams = {
        # A generator of its own for each, so that adding a signal does not change the others.
        signal.name: _values(signal, rate_hz, random.Random(f"{seed}:{signal.name}"))  # noqa: S311 (no secrets)
        for signal in signals
    }
    while True:
        yield {name: next(stream) for name, stream in streams.items()}


def _values(signal: Signal, rate_hz: float, rng: random.Random) -> Iterator[Value]:
    if isinstance(signal, Sine):
        return _sine(signal, rate_hz, rng)
    if isinstance(signal, RandomWalk):
        return _random_walk(signal, rng)
    if isinstance(signal, Counter):
        return _counter(signal)
    if isinstance(signal, Square):
        return _square(signal, rate_hz)
    return _constant(signal)


def _sine(signal: Sine, rate_hz: float, rng: random.Random) -> Iterator[float]:
    number = 0
    while True:
        turns = number / rate_hz / signal.period + signal.phase
        wave = signal.mean + signal.amplitude * math.sin(math.tau * math.fmod(turns, 1.0))
        yield round(wave + rng.gauss(0.0, 1.0) * signal.noise, signal.decimals)
        number += 1


def _random_walk(signal: RandomWalk, rng: random.Random) -> Iterator[float]:
    value = signal.start
    while True:
        # Rounding must not carry a value past its limits.
        yield min(max(round(value, signal.decimals), signal.minimum), signal.maximum)
        value = min(max(value + rng.uniform(-signal.step, signal.step), signal.minimum), signal.maximum)


def _counter(signal: Counter) -> Iterator[int]:
    value = signal.start
    while True:
        yield value
        value += signal.step


def _square(signal: Square, rate_hz: float) -> Iterator[float]:
    number = 0
    while True:
        turn = math.fmod(number / rate_hz / signal.period, 1.0)
        yield signal.high if turn < signal.duty else signal.low
        number += 1


def _constant(signal: Constant) -> Iterator[Value]:
    while True:
        yield signal.value
