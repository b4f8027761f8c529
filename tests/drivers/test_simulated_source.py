"""The simulated source: values by seed, times by schedule."""

import asyncio
import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from collectors.clock import SystemClock
from collectors.metadata_keys import UP_NS
from drivers.codecs import codec
from drivers.simulated.config import Signal, SimulatedConfig
from drivers.simulated.signals import readings
from drivers.simulated.source import BURST_MAX, SimulatedSource

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
UP_AT_START_NS = 10**12

FINITE = st.floats(-1e6, 1e6)
PERIODS = st.floats(0.01, 1e5)
SIGNALS = st.one_of(
    st.fixed_dictionaries(
        {
            "kind": st.just("sine"),
            "mean": FINITE,
            "amplitude": FINITE,
            "period": PERIODS,
            "noise": st.floats(0, 10),
        }
    ),
    st.fixed_dictionaries(
        {"kind": st.just("random_walk"), "start": st.floats(-5, 5), "step": st.floats(0, 10)}
    ).map(lambda signal: signal | {"minimum": -5.0, "maximum": 5.0}),
    st.fixed_dictionaries(
        {
            "kind": st.just("constant"),
            "value": st.one_of(st.booleans(), st.integers(-9, 9), FINITE, st.text()),
        }
    ),
    st.fixed_dictionaries(
        {"kind": st.just("counter"), "start": st.integers(-9, 9), "step": st.integers(-9, 9)}
    ),
    st.fixed_dictionaries({"kind": st.just("square"), "period": PERIODS, "duty": st.floats(0.1, 0.9)}),
)


def named(settings):
    return [signal | {"name": f"m{index}"} for index, signal in enumerate(settings)]


def parse(settings):
    return TypeAdapter(list[Signal]).validate_python(settings)


def take(settings, n, *, seed=0, rate_hz=1.0):
    return list(itertools.islice(readings(parse(settings), rate_hz=rate_hz, seed=seed), n))


class FakeTime:
    """A clock that moves only when somebody sleeps, or a test says so."""

    def __init__(self):
        self.elapsed_s = 0.0
        self.oversleep_s = 0.0
        self.slept = []

    def now(self):
        return EPOCH + timedelta(seconds=self.elapsed_s)

    def boottime_ns(self):
        return UP_AT_START_NS + round(self.elapsed_s * 1e9)

    def monotonic_s(self):
        return 5000.0 + self.elapsed_s

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.elapsed_s += seconds + self.oversleep_s
        await asyncio.sleep(0)


def make(time, **settings):
    config = SimulatedConfig.model_validate(
        {"signals": [{"name": "n", "kind": "counter"}], "rate": 10.0} | settings
    )
    return SimulatedSource("sim", config, data_format="json", clock=time, sleep=time.sleep)


@given(st.lists(SIGNALS, min_size=1, max_size=4), st.integers(0, 5), st.floats(0.1, 1000))
def test_the_same_seed_gives_the_same_values_and_they_decode(settings, seed, rate_hz):
    first = take(named(settings), 20, seed=seed, rate_hz=rate_hz)
    assert first == take(named(settings), 20, seed=seed, rate_hz=rate_hz)
    config = SimulatedConfig.model_validate({"signals": named(settings), "seed": seed, "rate": rate_hz})

    async def collected():
        time = FakeTime()
        source = SimulatedSource("sim", config, data_format="json", clock=time, sleep=time.sleep)
        await source.connect()
        return [await source.collect() for _ in range(20)]

    decoded = [codec("json")(data.raw_data) for data in asyncio.run(collected())]
    assert [one.values for (one,) in decoded] == first


@given(SIGNALS, st.lists(SIGNALS, max_size=3))
def test_a_signal_does_not_depend_on_its_neighbours(signal, others):
    alone = [values["m0"] for values in take(named([signal]), 20)]
    assert alone == [values["m0"] for values in take(named([signal, *others]), 20)]


def test_another_seed_gives_other_values():
    walk = named([{"kind": "random_walk", "step": 1.0}])
    assert take(walk, 10, seed=1) != take(walk, 10, seed=2)


def test_each_kind_of_signal():
    settings = [
        {"name": "s", "kind": "sine", "mean": 20, "amplitude": 2, "period": 4, "decimals": 2},
        {"name": "q", "kind": "square", "low": 0, "high": 5, "period": 4, "duty": 0.5},
        {"name": "c", "kind": "counter", "start": 7, "step": -2},
        {"name": "k", "kind": "constant", "value": "on"},
    ]
    assert take(settings, 4) == [
        {"s": 20.0, "q": 5.0, "c": 7, "k": "on"},
        {"s": 22.0, "q": 5.0, "c": 5, "k": "on"},
        {"s": 20.0, "q": 0.0, "c": 3, "k": "on"},
        {"s": 18.0, "q": 0.0, "c": 1, "k": "on"},
    ]


def test_a_constant_keeps_its_type():
    values = [take(named([{"kind": "constant", "value": value}]), 1)[0]["m0"] for value in (True, 1, 1.0)]
    assert [type(value) for value in values] == [bool, int, float]


@given(st.floats(0, 100), st.floats(-5, 5))
def test_a_walk_stays_between_its_limits(step, start):
    walk = named(
        [{"kind": "random_walk", "start": start, "step": step, "minimum": -5, "maximum": 5, "decimals": 0}]
    )
    values = [reading["m0"] for reading in take(walk, 200)]
    assert all(-5 <= value <= 5 for value in values)
    assert values[0] == round(start)


async def test_the_schedule_does_not_drift_though_every_sleep_is_too_long():
    time = FakeTime()
    time.oversleep_s = 0.013
    source = make(time)
    await source.connect()
    items = [await source.collect() for _ in range(1000)]
    due = [timedelta(seconds=n / 10) for n in range(1000)]
    assert all(
        abs(item.timestamp - EPOCH - t) < timedelta(microseconds=2)
        for item, t in zip(items, due, strict=True)
    )
    ups = [item.metadata[UP_NS] - UP_AT_START_NS for item in items]
    assert all(abs(up - n * 10**8) < 2000 for n, up in enumerate(ups))
    assert abs(time.elapsed_s - 99.9) < 0.1


async def test_who_is_late_gets_what_is_due_with_the_time_it_was_due():
    time = FakeTime()
    source = make(time)
    await source.connect()
    await source.collect()
    time.elapsed_s = 60.0
    items = []
    for _ in range(600):
        assert len(source._due) <= BURST_MAX
        items.append(await source.collect())
    assert not time.slept
    assert [item.raw_data for item in items] == [b'{"n":%d}' % n for n in range(1, 601)]
    assert abs(items[0].timestamp - EPOCH - timedelta(seconds=0.1)) < timedelta(microseconds=2)
    await source.collect()
    assert len(time.slept) == 1


async def test_after_a_disconnect_values_go_on_and_the_schedule_starts_anew():
    time = FakeTime()
    source = make(time)
    await source.connect()
    await source.connect()  # harmless
    assert (await source.collect()).raw_data == b'{"n":0}'
    await source.disconnect()
    time.elapsed_s = 3600.0
    with pytest.raises(ConnectionError, match="sim: not connected"):
        await source.collect()
    await source.connect()
    data = await source.collect()
    assert data.raw_data == b'{"n":1}'
    assert data.timestamp == EPOCH + timedelta(hours=1)


async def test_disconnecting_ends_a_stream_that_waits():
    source = SimulatedSource("sim", SimulatedConfig(rate=100), data_format="json", clock=SystemClock())
    await source.disconnect()
    await source.connect()
    stream = source.collect_stream()
    await anext(stream)
    waiting = asyncio.create_task(anext(stream))
    await asyncio.sleep(0)
    await source.disconnect()
    with pytest.raises(ConnectionError):
        await waiting


async def test_it_keeps_its_rate_on_the_real_clock():
    clock = SystemClock()
    source = SimulatedSource("sim", SimulatedConfig(rate=1000), data_format="json", clock=clock)
    start = clock.monotonic_s()
    await source.connect()
    for _ in range(501):
        data = await source.collect()
    assert clock.monotonic_s() - start >= 0.5
    assert data.collection_method == "simulated"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rate": 0}, "rate"),
        ({"rate": 20_000}, "rate"),
        ({"signals": []}, "signals"),
        ({"signals": [{"name": "a", "kind": "saw"}]}, "sine"),
        ({"signals": [{"name": "a", "kind": "counter"}] * 2}, "two signals are named 'a'"),
        (
            {"signals": [{"name": "a", "kind": "random_walk", "start": 5, "maximum": 1}]},
            "start 5 must lie between",
        ),
        ({"rate_hz": 1}, "rate_hz"),
    ],
)
def test_a_wrong_configuration_is_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        SimulatedConfig.model_validate(settings)


def test_it_speaks_json_only():
    with pytest.raises(ValueError, match="speaks json, not 'csv'"):
        SimulatedSource("sim", SimulatedConfig(), data_format="csv", clock=SystemClock())
