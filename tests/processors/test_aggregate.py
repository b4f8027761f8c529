"""Windows: any order within the lateness, and restarts at any point, give what is computed at once."""

import math
from collections import defaultdict
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json, to_json

from agent.processors.aggregate import Aggregate, AggregateOptions
from agent.processors.exact_sum import ExactSum
from collectors import ClockQuality, Lane, Quality, QualityFlag, Reading

ALL = ("mean", "min", "max", "sum", "count", "first", "last")
NOON = 1_790_000_040.0  # a full minute


def aggregate(every=60.0, lateness=0.0, functions=ALL, **options):
    return Aggregate(AggregateOptions(every=every, lateness=lateness, functions=functions, **options))


def reading(t, value, **fields):
    return Reading(source=fields.pop("source", "soil"), t=NOON + t, values={"x": value}, **fields)


async def fed(step, readings):
    made = []
    for one in readings:
        result = await step.process([one])
        assert result.success, result.error
        made += result.processed_data
    return made


def flushed(step):
    return list(step.due(1e12))


def by_window(readings):
    return {round(r.t - NOON, 3): r.values for r in readings}


# Exact sums


@given(st.lists(st.floats(-1e300, 1e300), max_size=30), st.randoms())
def test_a_sum_does_not_depend_on_the_order(numbers, random):
    total = ExactSum()
    shuffled = list(numbers)
    random.shuffle(shuffled)
    for number in shuffled:
        total.add(number)
    again = ExactSum(from_json(to_json(total.parts)))
    exact = sum(map(Fraction, numbers))
    if abs(exact) < Fraction(1e308):
        assert total.total == again.total == float(exact)


# Windows


async def test_a_window_is_given_when_a_later_reading_closes_it():
    step = aggregate()
    assert await fed(step, [reading(0, 1), reading(30, 3), reading(59.9, 2)]) == []
    [window] = await fed(step, [reading(60, 9)])
    assert window.t == NOON
    assert window.values == {
        "x.mean": 2.0,
        "x.min": 1,
        "x.max": 3,
        "x.sum": 6.0,
        "x.count": 3,
        "x.first": 1,
        "x.last": 2,
    }


async def test_a_single_function_keeps_the_name_and_the_unit():
    step = aggregate(functions=("mean",))
    [window] = await fed(step, [reading(0, 1, units={"x": "Cel"}), reading(60, 1)])
    assert (window.values, window.units) == ({"x": 1.0}, {"x": "Cel"})


async def test_bad_values_do_not_count_and_doubt_is_passed_on():
    bad = {"x": Quality(flag=QualityFlag.BAD)}
    doubt = {"x": Quality(flag=QualityFlag.UNCERTAIN, reason="stuck")}
    step = aggregate(functions=("max",))
    [window] = await fed(
        step, [reading(0, 1, quality=doubt), reading(1, 99, quality=bad), reading(2, 2), reading(60, 0)]
    )
    assert window.values == {"x": 2}
    assert window.quality == {"x": Quality(flag=QualityFlag.UNCERTAIN, reason="stuck")}
    assert await fed(step, [reading(70, 9, quality=bad), reading(120, 0)]) != []


async def test_a_window_of_nothing_but_bad_values_gives_nothing():
    bad = {"x": Quality(flag=QualityFlag.BAD)}
    assert await fed(aggregate(), [reading(0, 1, quality=bad), reading(60, 1)]) == []


async def test_texts_have_a_first_a_last_and_a_count():
    step = aggregate()
    [window] = await fed(step, [reading(0, "on"), reading(1, "off"), reading(60, "on")])
    assert window.values == {"x.count": 2, "x.first": "on", "x.last": "off"}


async def test_an_alarm_passes_and_counts():
    step = aggregate(functions=("count",))
    alarm = reading(1, 99, lane=Lane.ALARM)
    passed = await fed(step, [reading(0, 1), alarm, reading(60, 1)])
    assert passed[0] is alarm
    assert (passed[1].values, passed[1].lane) == ({"x": 2}, Lane.NORMAL)


async def test_only_some_metrics():
    step = aggregate(metrics=["x"], functions=("max",))
    data = Reading(source="soil", t=NOON, values={"x": 1, "y": 2})
    assert [r.values for r in await fed(step, [data, reading(60, 1)])] == [{"x": 1}]


async def test_a_reading_within_the_lateness_counts_and_one_beyond_it_is_refused():
    step = aggregate(lateness=30.0, functions=("count",))
    assert await fed(step, [reading(0, 1), reading(89, 1), reading(59, 1)]) == []
    [window] = await fed(step, [reading(90, 1)])
    assert window.values == {"x": 2}
    result = await step.process([reading(58, 1)])
    assert "too late: its window of 60 s is closed" in result.error


async def test_a_clock_that_is_set_far_back_begins_anew():
    step = aggregate(functions=("count",))
    await fed(step, [reading(86_400, 1)])
    assert by_window(await fed(step, [reading(86_460, 1)])) == {86_400: {"x": 1}}
    assert by_window(await fed(step, [reading(0, 5)])) == {86_460: {"x": 1}}
    assert by_window(flushed(step)) == {0: {"x": 1}}


async def test_the_clock_is_as_good_as_the_worst_and_the_moment_that_of_the_window():
    step = aggregate(functions=("count",))
    moments = [(10, ClockQuality.ESTIMATED), (20, ClockQuality.SYNCED), (60, ClockQuality.SYNCED)]
    readings = [reading(t, 1, boot=3, up=int((1000 + t) * 1e9), clock=clock) for t, clock in moments]
    [window] = await fed(step, readings)
    assert (window.clock, window.boot, window.up) == (ClockQuality.ESTIMATED, 3, 1000 * 10**9)


async def test_a_sensor_that_falls_silent_closes_its_window():
    step = aggregate(lateness=5.0, functions=("count",))
    step.due(1000.0)
    await fed(step, [reading(50, 1)])
    assert step.due(1014.9) == []
    assert [r.values for r in step.due(1015.1)] == [{"x": 1}]


def computed_at_once(readings, every):
    windows = defaultdict(list)
    for one in readings:
        windows[math.floor(one.t / every)].append((one.t, one.values["x"]))
    made = {}
    for index, found in windows.items():
        found.sort()
        values = [value for _, value in found]
        made[round(index * every - NOON, 3)] = {
            "x.mean": float(sum(map(Fraction, values))) / len(values),
            "x.min": min(values),
            "x.max": max(values),
            "x.sum": float(sum(map(Fraction, values))),
            "x.count": len(values),
            "x.first": values[0],
            "x.last": values[-1],
        }
    return made


@st.composite
def arrivals(draw):
    """Readings in an order in which none is later than the lateness, and where the program restarts."""
    lateness = draw(st.sampled_from([0.0, 5.0, 100.0]))
    times = sorted(draw(st.sets(st.integers(0, 600), min_size=1, max_size=40)))
    delayed = [(t + draw(st.floats(0, lateness)), t) for t in times]
    ordered = [t for _, t in sorted(delayed)]
    values = draw(st.lists(st.floats(-1e6, 1e6), min_size=len(times), max_size=len(times)))
    restarts = draw(st.sets(st.integers(0, len(times)), max_size=5))
    return lateness, [reading(t, value) for t, value in zip(ordered, values, strict=True)], restarts


@given(arrivals())
async def test_any_order_within_the_lateness_and_restarts_give_what_is_computed_at_once(arrived):
    lateness, readings, restarts = arrived
    step, made, rows = aggregate(lateness=lateness), [], {}
    for place, one in enumerate(readings):
        made += await fed(step, [one])
        rows |= from_json(to_json(step.changed_rows()))
        if place in restarts:
            step = aggregate(lateness=lateness)
            step.restore({name: row for name, row in rows.items() if row is not None})
    made += flushed(step)
    assert len(made) == len(by_window(made)), "each window once"
    expected = computed_at_once(readings, 60.0)
    found = by_window(made)
    assert found.keys() == expected.keys()
    for window, values in expected.items():
        assert found[window] == pytest.approx(values, rel=1e-12)


async def test_what_is_held_stands_for_readings():
    step = aggregate(functions=("max",))
    await fed(step, [reading(0, 1), reading(1, 5)])
    [row] = step.changed_rows().values()
    [document] = row["readings"]
    assert Reading.from_document(from_json(to_json(document))).values == {"x": 5}


async def test_memory_is_bounded_and_what_is_forgotten_is_given(monkeypatch):
    monkeypatch.setattr("agent.processors.series.SERIES_MAX", 3)
    step = aggregate(functions=("count",))
    await fed(step, [reading(0, n, source=f"s{n}") for n in range(5)])
    assert sorted(r.source for r in step.overdue()) == ["s0", "s1"]
    assert step.due(0.0) == []
    assert {name: row for name, row in step.changed_rows().items() if row is None}.keys() == {
        '["s0"]',
        '["s1"]',
    }


# A message is taken in whole, or not at all


async def test_a_message_that_is_refused_changes_nothing():
    step = aggregate(functions=("count",))
    await fed(step, [reading(0, 1), reading(60, 2)])
    step.changed_rows()
    result = await step.process([reading(61, 3), reading(120, 4), reading(30, 5)])
    assert "30 s too late: its window of 60 s is closed" in result.error
    assert step.changed_rows() == {}
    assert by_window(flushed(step)) == {60: {"x": 1}}


async def test_the_readings_of_a_message_come_all_at_once_in_whatever_order_it_names_them():
    step = aggregate(functions=("count",))
    message = [reading(t, 1) for t in (150, 90, 30, 61)]
    assert step.validate_input(message)
    result = await step.process(message)
    assert by_window(result.processed_data) == {0: {"x": 1}, 60: {"x": 2}}


async def test_a_long_message_is_taken_in_without_a_pause():
    """What is held must never be half of a message, whoever writes it down."""
    step = aggregate(every=3600.0, functions=("count",))
    coroutine = step.process([reading(n, 1) for n in range(1500)])
    with pytest.raises(StopIteration) as done:
        coroutine.send(None)
    assert done.value.value.success


async def test_a_message_with_more_windows_than_may_be_open_is_taken_whole():
    step = aggregate(every=1.0, lateness=1000.0, functions=("count",))
    message = [reading(n, 1) for n in range(150)]
    result = await step.process([*reversed(message)])
    assert len(by_window(result.processed_data)) == 50
    assert len(flushed(step)) == 100


async def test_after_a_restart_a_window_is_as_long_as_before():
    before = aggregate(lateness=5.0, functions=("count",))
    await fed(before, [reading(50, 1)])
    step = aggregate(lateness=5.0, functions=("count",))
    step.begin(86_400.0)
    step.restore(before.changed_rows())
    assert step.due(86_401.0) == []
    await fed(step, [reading(55, 1)])
    assert [r.values for r in step.due(86_420.0)] == [{"x": 2}]


async def test_after_a_restart_it_is_said_how_late_a_reading_is():
    before = aggregate(functions=("count",))
    await fed(before, [reading(50, 1)])
    assert before.due(200.0)
    step = aggregate(functions=("count",))
    step.restore(before.changed_rows())
    result = await step.process([reading(30, 1)])
    assert "20 s too late" in result.error


@pytest.mark.parametrize(
    ("before", "now"),
    [
        # A boot without a network: its clock begins where it was last written down.
        ({"boot": 1, "up": 10**12}, {"boot": 2, "up": 10**9, "clock": ClockQuality.ESTIMATED}),
        # A clock that was ahead is synchronised.
        ({"boot": 1, "up": 10**9, "clock": ClockQuality.ESTIMATED}, {"boot": 1, "up": 10**10}),
    ],
)
async def test_a_reading_is_not_late_because_the_clock_was_set_back(before, now):
    step = aggregate(functions=("count",))
    await fed(step, [reading(0, 1, **before), reading(180, 1, **before)])
    after = aggregate(functions=("count",))
    after.restore(from_json(to_json(step.changed_rows())))
    assert by_window(await fed(after, [reading(60, 1, **now)])) == {180: {"x": 1}}
    assert by_window(await fed(after, [reading(70, 1, **now), reading(120, 1, **now)])) == {60: {"x": 2}}


async def test_a_reading_that_was_taken_before_is_late_whatever_the_clock():
    step = aggregate(functions=("count",))
    estimated = {"boot": 1, "clock": ClockQuality.ESTIMATED}
    await fed(step, [reading(180, 1, up=10**12, **estimated)])
    assert (await step.process([reading(60, 1, up=10**9, **estimated)])).error
