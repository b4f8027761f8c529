"""The error bound of swinging-door compression, proved on any signal; and what is held survives."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from agent.processors.swinging_door import SwingingDoor, SwingingDoorOptions
from collectors import Lane, Quality, QualityFlag, Reading

FOR_EVER = 1e12


def door(width=1.0, keep_every=FOR_EVER):
    return SwingingDoor(SwingingDoorOptions(metric="x", width=width, keep_every=keep_every))


def reading(t, value, **fields):
    return Reading(source=fields.pop("source", "soil"), t=t, values={"x": value}, **fields)


async def given_for(step, readings):
    kept = []
    for one in readings:
        result = await step.process([one])
        assert result.success, result.error
        kept += result.processed_data
    return kept


async def compressed(step, readings):
    """What is kept in the end, with what was held."""
    return [*await given_for(step, readings), *step.due(FOR_EVER * 2)]


def points(readings):
    return [(r.t, r.values["x"]) for r in readings if "x" in r.values]


def interpolated(corners, t):
    for (t0, v0), (t1, v1) in pairwise([corners[0], *corners]):
        if t0 <= t <= t1:
            return v0 + (v1 - v0) * (t - t0) / (t1 - t0) if t1 > t0 else v0
    raise AssertionError(f"{t} is not between {corners[0][0]} and {corners[-1][0]}")


milliseconds = st.integers(1, 10**7).map(lambda ms: ms / 1000)
signals = st.lists(
    st.tuples(milliseconds, st.floats(-1e6, 1e6) | st.integers(-100, 100)), min_size=1, max_size=60
)


@given(signals, st.floats(0.001, 1e3))
async def test_no_value_is_further_from_the_line_than_the_width(steps, width):
    t, readings = 1e9, []
    for after_s, value in steps:
        t = round(t + after_s, 3)
        readings.append(reading(t, value))
    corners = points(await compressed(door(width), readings))
    assert corners == sorted(corners), "in order"
    assert corners[0] == (readings[0].t, readings[0].values["x"])
    assert corners[-1] == (readings[-1].t, readings[-1].values["x"])
    for one in readings:
        error = abs(interpolated(corners, one.t) - one.values["x"])
        assert error <= width + 1e-6 * max(1.0, abs(one.values["x"]), width)


async def test_a_straight_line_is_two_points():
    readings = [reading(t, 0.5 * t) for t in range(1000)]
    assert points(await compressed(door(0.01), readings)) == [(0, 0.0), (999, 499.5)]


async def test_a_corner_is_given_when_the_next_value_shows_that_it_is_one():
    step = door(0.5)
    assert points(await given_for(step, [reading(0, 0), reading(1, 0), reading(2, 0)])) == [(0, 0)]
    assert points(await given_for(step, [reading(3, 10)])) == [(2, 0)]


async def test_noise_within_the_width_is_gone():
    readings = [reading(t, 20 + 0.4 * math.sin(t)) for t in range(500)]
    assert len(await compressed(door(1.0), readings)) == 2


@pytest.mark.parametrize(
    "news",
    [
        reading(3, 0, lane=Lane.ALARM),
        reading(3, 0, quality={"x": Quality(flag=QualityFlag.BAD)}),
        reading(3, "broken"),
        reading(3, True),  # noqa: FBT003 (a value)
        reading(1, 0),
        reading(1000, 0),
    ],
)
async def test_news_is_given_at_once_and_what_was_held_before_it(news):
    step = door(keep_every=900)
    kept = await given_for(step, [reading(0, 0), reading(2, 0), news])
    assert points(kept) == [(0, 0), (2, 0), (news.t, news.values["x"])]
    assert kept[-1] is news


async def test_what_else_a_reading_says_passes_at_once():
    step = door()
    await given_for(step, [reading(0, 0)])
    both = Reading(source="soil", t=1, values={"x": 0, "humidity": 50}, units={"x": "Cel", "humidity": "%RH"})
    [rest] = await given_for(step, [both])
    assert (rest.values, rest.units) == ({"humidity": 50}, {"humidity": "%RH"})
    [held] = step.due(FOR_EVER * 2)
    assert (held.values, held.units) == ({"x": 0}, {"x": "Cel"})


async def test_a_sensor_that_falls_silent_gives_its_last_value():
    step = door(keep_every=60)
    step.due(100.0)
    await given_for(step, [reading(0, 0), reading(1, 5)])
    assert step.due(159.0) == []
    assert points(step.due(160.0)) == [(1, 5)]
    assert step.due(500.0) == []


async def test_series_are_told_apart():
    step = door(0.5)
    kept = await given_for(step, [reading(t, v, source=s) for t in range(5) for s, v in (("a", 0), ("b", t))])
    assert points(kept) == [(0, 0), (0, 0)]
    assert sorted(points(step.due(FOR_EVER * 2))) == [(4, 0), (4, 4)]


@given(signals, st.data())
async def test_a_restart_at_any_point_changes_nothing(steps, data):
    t, readings = 1e9, []
    for after_s, value in steps:
        t = round(t + after_s, 3)
        readings.append(reading(t, value))
    straight = await compressed(door(1.0), readings)
    cut = data.draw(st.integers(0, len(readings)))
    before, after = door(1.0), door(1.0)
    kept = await given_for(before, readings[:cut])
    rows = {name: from_json(to_json(row)) for name, row in before.changed_rows().items() if row is not None}
    after.restore(rows)
    kept += await compressed(after, readings[cut:])
    assert points(kept) == points(straight)


async def test_memory_is_bounded_and_what_is_forgotten_is_given(monkeypatch):
    monkeypatch.setattr("agent.processors.series.SERIES_MAX", 3)
    step = door()
    for n in range(6):
        await given_for(step, [reading(0, n, source=f"s{n}"), reading(1, n, source=f"s{n}")])
    assert points(step.overdue()) == [(1, 0), (1, 1), (1, 2)]
