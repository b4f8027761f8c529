"""Steps that judge: rate of change, stuck values, alarms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.processors.alarm import Alarm, AlarmOptions
from agent.processors.rate import Rate, RateOptions
from agent.processors.stuck import Stuck, StuckOptions
from collectors import Lane, Quality, QualityFlag, Reading

BAD = Quality(flag=QualityFlag.BAD, reason="below -40")


def reading(value, t=0.0, **fields):
    return Reading(source="soil", t=t, values={"temperature": value}, **fields)


def series(*values, every_s=1.0):
    return [reading(value, n * every_s) for n, value in enumerate(values)]


async def processed(step, readings):
    made = []
    for one in readings:  # as they come: one at a time
        result = await step.process([one])
        assert result.success, result.error
        made += result.processed_data
    assert [r.values for r in made] == [r.values for r in readings], "values are never touched"
    return made


async def reasons(step, *values, every_s=1.0):
    made = await processed(step, series(*values, every_s=every_s))
    return [r.quality["temperature"].reason if r.quality else None for r in made]


# Rate


async def test_a_spike_is_marked_and_the_good_value_after_it_is_not():
    step = Rate(RateOptions(metric="temperature", max_rise=1.0))
    assert await reasons(step, 20, 21, 85, 21, 22) == [
        None,
        None,
        "rose by 64 a second, more than 1",
        None,
        None,
    ]


async def test_three_marked_ones_in_a_row_are_the_new_truth():
    step = Rate(RateOptions(metric="temperature", max_rise=1.0, max_fall=1.0))
    found = await reasons(step, 0, 50, 50, 50, 50, 49.5)
    assert [reason is not None for reason in found] == [False, True, True, True, False, False]


async def test_rise_and_fall_are_told_apart():
    step = Rate(RateOptions(metric="temperature", max_fall=0.5, flag="bad"))
    [_, _, fallen] = await processed(step, series(0, 100, 99, every_s=1.0))
    assert fallen.quality["temperature"] == Quality(
        flag=QualityFlag.BAD, reason="fell by 1 a second, more than 0.5"
    )


async def test_time_is_that_of_the_clock_that_never_steps():
    step = Rate(RateOptions(metric="temperature", max_rise=1.0))
    stepped = [reading(20, 1e9, boot=1, up=10**9), reading(20.5, 5.0, boot=1, up=2 * 10**9)]
    assert [r.quality for r in await processed(step, stepped)] == [{}, {}]
    fast = reading(23, 1e10, boot=1, up=3 * 10**9)
    assert (await processed(step, [fast]))[0].quality


async def test_a_worse_quality_stays():
    step = Rate(RateOptions(metric="temperature", max_rise=1.0))
    await processed(step, [reading(0)])
    [marked] = await processed(step, [reading(50, 1.0, quality={"temperature": BAD})])
    assert marked.quality == {"temperature": BAD}


@given(
    st.lists(st.booleans() | st.text(max_size=3) | st.floats(-1e6, 1e6), max_size=20), st.floats(0.001, 1e3)
)
async def test_rate_never_fails(values, every_s):
    step = Rate(RateOptions(metric="temperature", max_rise=5.0, max_fall=5.0))
    await processed(step, series(*values, every_s=every_s))


# Stuck


async def test_a_value_that_has_not_moved_is_marked_until_it_does():
    step = Stuck(StuckOptions(metric="temperature", longer_than="2 s"))
    assert await reasons(step, 5, 5, 5, 5, 5, 6, 6) == [
        None,
        None,
        None,
        "has not moved for 3 s",
        "has not moved for 4 s",
        None,
        None,
    ]


async def test_noise_below_the_width_is_no_movement():
    step = Stuck(StuckOptions(metric="temperature", longer_than="2 s", width=0.1))
    found = await reasons(step, 5, 5.05, 4.95, 5.1, 5.2)
    assert found == [None, None, None, "has not moved for 3 s", None]


async def test_texts_and_truth_values_can_be_stuck():
    step = Stuck(StuckOptions(metric="temperature", longer_than="1 s"))
    values = ["on", "on", "on", True, True, True]
    assert await reasons(step, *values) == [
        None,
        None,
        "has not moved for 2 s",
        None,
        None,
        "has not moved for 2 s",
    ]


# Alarm


async def states(step, *values, every_s=1.0):
    made = await processed(step, series(*values, every_s=every_s))
    return [(r.tags.get("alarm"), r.lane is Lane.ALARM) for r in made]


NORMAL, RAISED, ACTIVE, CLEARED = (None, False), ("raised", True), ("active", False), ("cleared", True)


async def test_an_alarm_is_raised_and_ends():
    step = Alarm(AlarmOptions(metric="temperature", above=30.0))
    assert await states(step, 20, 31, 32, 30, 20) == [NORMAL, RAISED, ACTIVE, CLEARED, NORMAL]


async def test_hysteresis_keeps_it_from_fluttering():
    step = Alarm(AlarmOptions(metric="temperature", above=30.0, hysteresis=2.0))
    assert await states(step, 31, 29, 31, 28, 29) == [RAISED, ACTIVE, ACTIVE, CLEARED, NORMAL]


async def test_delay_keeps_out_what_is_short():
    step = Alarm(AlarmOptions(metric="temperature", below=5.0, delay="2 s"))
    assert await states(step, 4, 4, 6, 4, 4, 4, 6) == [NORMAL] * 5 + [RAISED, CLEARED]


@pytest.mark.parametrize("value", [True, "hot"])
async def test_what_is_no_number_raises_nothing(value):
    assert await states(Alarm(AlarmOptions(metric="temperature", above=0.0)), value) == [NORMAL]


@given(st.lists(st.floats(-100, 100), max_size=30), st.floats(0, 10))
async def test_what_is_raised_is_cleared_once(values, hysteresis):
    step = Alarm(AlarmOptions(metric="temperature", above=30.0, below=-30.0, hysteresis=hysteresis))
    on_the_lane = [state for state, fast in await states(step, *values) if fast]
    assert on_the_lane == (["raised", "cleared"] * len(on_the_lane))[: len(on_the_lane)]
