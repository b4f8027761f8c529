import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.processors.deadband import Deadband, DeadbandOptions
from agent.processors.range import Range, RangeOptions
from agent.processors.reading_step import ReadingStep
from agent.processors.registry import NAMES, create_processor, load_config_class
from agent.processors.route import Route
from agent.processors.scale import Scale, ScaleOptions
from agent.processors.tag import Tag, TagOptions
from collectors import Lane, Quality, QualityFlag, Reading

finite = st.floats(allow_nan=False, allow_infinity=False)
values = st.booleans() | st.integers(-(2**63), 2**63 - 1) | finite | st.text(max_size=5)


def reading(value=21.5, t=0.0, **fields):
    return Reading(source=fields.pop("source", "soil"), t=t, values={"temperature": value}, **fields)


@st.composite
def readings_of_any_kind(draw):
    value = draw(values)
    lane = draw(st.sampled_from(Lane))
    return reading(
        value, t=draw(st.floats(0, 1e9)), lane=lane, units=draw(st.sampled_from([{}, {"a": "Cel"}]))
    )


async def kept(step, *readings):
    result = await step.process(list(readings))
    assert result.success, result.error
    return [r.values["temperature"] for r in result.processed_data]


# Scale


async def test_scale_changes_value_and_unit():
    step = Scale(ScaleOptions(metric="temperature", factor=1.8, offset=32.0, unit="Fah"))
    original = reading(100, units={"temperature": "Cel", "humidity": "%RH"})
    [scaled] = (await step.process([original])).processed_data
    assert scaled.values == {"temperature": 212.0}
    assert scaled.units == {"temperature": "Fah", "humidity": "%RH"}
    assert original.values == {"temperature": 100}


@pytest.mark.parametrize("value", [True, "warm"])
async def test_scale_leaves_what_is_no_number(value):
    assert await kept(Scale(ScaleOptions(metric="temperature", factor=2)), reading(value)) == [value]


async def test_scale_that_overflows_keeps_the_value_and_marks_it():
    [scaled] = (
        await Scale(ScaleOptions(metric="temperature", factor=1e300)).process([reading(1e300)])
    ).processed_data
    assert scaled.values == {"temperature": 1e300}
    assert scaled.quality == {"temperature": Quality(flag=QualityFlag.BAD, reason="scaling overflows")}


@given(values, finite, finite)
async def test_scaled_readings_are_always_valid(value, factor, offset):
    step = Scale(ScaleOptions(metric="temperature", factor=factor, offset=offset))
    for scaled in (await step.process([reading(value)])).processed_data:
        assert Reading.from_document(scaled.to_document()).values == scaled.values


# Range


@pytest.mark.parametrize(
    ("low", "high", "value", "reason"),
    [
        (-40, 85, 21.5, None),
        (-40, 85, -40, None),
        (-40, 85, 85, None),
        (-40, 85, 85.1, "above 85"),
        (-40, None, -41, "below -40"),
        (-40, None, 1e9, None),
        (None, 85, -1e9, None),
        (0, 1, True, None),
        (0, 1, "far", None),
    ],
)
async def test_range_marks_what_is_outside(low, high, value, reason):
    step = Range(RangeOptions(metric="temperature", low=low, high=high))
    [marked] = (await step.process([reading(value)])).processed_data
    assert marked.values == {"temperature": value}
    assert marked.lane is Lane.NORMAL
    expected = {} if reason is None else {"temperature": Quality(flag=QualityFlag.BAD, reason=reason)}
    assert marked.quality == expected


async def test_range_can_raise_an_alarm():
    step = Range(RangeOptions(metric="temperature", high=30, alarm=True))
    [cool, hot] = (await step.process([reading(20), reading(31)])).processed_data
    assert (cool.lane, hot.lane) == (Lane.NORMAL, Lane.ALARM)


@pytest.mark.parametrize(
    ("options", "message"), [({}, "needs `low`"), ({"low": 5, "high": 4}, "must not be above")]
)
def test_range_must_make_sense(options, message):
    with pytest.raises(ValidationError, match=message):
        RangeOptions(metric="temperature", **options)


# Tag


@pytest.mark.parametrize(("overwrite", "site"), [(False, "its own"), (True, "north")])
async def test_tag_adds_and_may_overwrite(overwrite, site):
    step = Tag(TagOptions(tags={"site": "north", "room": "3"}, overwrite=overwrite))
    [tagged] = (await step.process([reading(tags={"site": "its own"})])).processed_data
    assert tagged.tags == {"site": site, "room": "3"}


# Deadband


def deadband(width=0.5, **options):
    return Deadband(DeadbandOptions(metric="temperature", width=width, **options))


async def test_deadband_compares_with_the_last_value_kept():
    drift = [reading(20 + n / 10, t=n) for n in range(20)]
    assert await kept(deadband(0.45), *drift) == [20.0, 20.5, 21.0, 21.5]


async def test_deadband_of_zero_drops_what_is_equal():
    assert await kept(deadband(0), *(reading(v) for v in (1, 1.0, 2, 2, 1))) == [1, 2, 1]


async def test_deadband_keeps_a_sign_of_life():
    step = deadband(keep_every="1 h")
    assert await kept(step, *(reading(20, t=t) for t in (0, 3599, 3600, 7199, 7200))) == [20, 20, 20]


async def test_clock_that_steps_back_does_not_silence():
    step = deadband(keep_every=60)
    assert await kept(step, reading(20, t=1e9), reading(20, t=0), reading(20, t=59)) == [20, 20]


async def test_deadband_counts_by_the_clock_that_never_steps():
    step = deadband(keep_every=60)
    moments = [(1e9, 100), (1e9 - 50, 150), (1e9 - 45, 155), (1e9 - 40, 160), (2e9, 165)]
    readings = [reading(20, t=t, boot=1, up=up * 10**9) for t, up in moments]
    result = await step.process(readings)
    assert [r.up // 10**9 for r in result.processed_data] == [100, 160]


async def test_texts_and_truth_values_are_kept_when_they_change():
    sequence = [True, True, False, "open", "open", 1, True]
    assert await kept(deadband(10), *(reading(v) for v in sequence)) == [True, False, "open", 1, True]


async def test_change_of_quality_is_kept():
    bad = {"temperature": Quality(flag=QualityFlag.BAD)}
    readings = [reading(20), reading(20, quality=bad), reading(20, quality=bad), reading(20)]
    assert await kept(deadband(), *readings) == [20, 20, 20]


async def test_alarm_is_always_kept():
    assert await kept(deadband(), *[reading(20, lane=Lane.ALARM)] * 3) == [20, 20, 20]


async def test_series_are_told_apart_by_source_and_tags():
    step = deadband()
    readings = [
        reading(20),
        reading(20, source="hall"),
        reading(20, tags={"topic": "a"}),
        reading(20, tags={"topic": "b"}),
    ]
    assert len(await kept(step, *readings)) == 4
    assert await kept(step, *readings) == []


async def test_only_the_still_metric_is_left_out():
    step = deadband()
    first = Reading(
        source="soil",
        t=0,
        values={"temperature": 20, "humidity": 40},
        units={"temperature": "Cel", "humidity": "%RH"},
    )
    other = Reading(source="soil", t=1, values={"humidity": 41})
    result = await step.process([first, first, other])
    assert [r.values for r in result.processed_data] == [first.values, {"humidity": 40}, other.values]
    assert result.processed_data[1].units == {"humidity": "%RH"}
    assert first.values == {"temperature": 20, "humidity": 40}


async def test_series_are_bounded(monkeypatch):
    monkeypatch.setattr("agent.processors.series.SERIES_MAX", 3)
    step = deadband()
    await step.process([reading(20, source=f"s{n}") for n in range(10)])
    assert len(step._series) == 3


@given(st.lists(finite, min_size=1, max_size=30), st.floats(0, 100))
async def test_what_was_left_out_is_near_what_was_kept(sequence, width):
    step = deadband(width, keep_every=1e9)
    last = None
    for value in sequence:
        passed = await kept(step, reading(value))
        if passed:
            last = value
        assert last is not None
        assert abs(value - last) <= width


# What they share


@pytest.mark.parametrize("bad", [None, "text", {}, [1], [reading(), None], (reading(),)])
async def test_steps_take_lists_of_readings(bad):
    with pytest.raises(ValueError, match="a list of readings"):
        await deadband().process(bad)


async def test_step_that_refuses_a_reading_gives_a_failed_result():
    class Refusing(ReadingStep):
        def apply(self, reading):
            raise ValueError("not this one")

    result = await Refusing("refusing").process([reading()])
    assert (result.success, result.error) == (False, "not this one")


@pytest.mark.parametrize(
    ("on_error", "passed", "dropped"), [("drop", [1], 1), ("pass", [1, -1], 0), ("dead_letter", None, 0)]
)
async def test_what_cannot_be_processed_is_set_aside_dropped_or_passed(on_error, passed, dropped):
    class Roots(ReadingStep):
        def apply(self, reading):
            if reading.values["temperature"] < 0:
                raise ValueError("has no root")
            return reading

    step = Roots("roots")
    step.on_error = on_error
    result = await step.process([reading(1), reading(-1)])
    assert result.success is (passed is not None)
    assert step.dropped == dropped
    if passed is None:
        assert result.error == "has no root"
        return
    assert [made.values["temperature"] for made in result.processed_data] == passed
    if on_error == "pass":
        doubt = Quality(flag=QualityFlag.UNCERTAIN, reason="roots: has no root")
        assert [made.quality for made in result.processed_data] == [{}, {"temperature": doubt}]


@pytest.mark.parametrize(
    ("route", "doubled"),
    [
        (Route(), [2, 2]),
        (Route(sources=frozenset({"soil"})), [2, 1]),
        (Route(tags={"bed": "north"}), [1, 2]),
        (Route(metrics=frozenset({"temperature"})), [2, 2]),
        (Route(metrics=frozenset({"humidity"})), [1, 1]),
        (Route(sources=frozenset({"soil"}), tags={"bed": "north"}), [1, 1]),
    ],
)
async def test_a_step_is_for_the_readings_on_its_route(route, doubled):
    step = Scale(ScaleOptions(metric="temperature", factor=2.0))
    step.route = route
    assert await kept(step, reading(1), reading(1, source="hall", tags={"bed": "north"})) == doubled


@given(readings_of_any_kind(), st.sampled_from(["values", "tags", "lane", "t"]))
def test_a_changed_reading_is_like_a_copied_one(original, name):
    value = getattr(reading(99, t=5.0, tags={"x": "y"}, lane=Lane.ALARM), name)
    before = original.model_copy(deep=True)
    changed = original.changed(**{name: value})
    assert changed == original.model_copy(update={name: value})
    assert changed.model_fields_set == original.model_copy(update={name: value}).model_fields_set
    assert original == before


OPTIONS = {
    "aggregate": {"every": "1 min"},
    "alarm": {"metric": "temperature", "above": 30},
    "calibrate": {"metric": "temperature", "points": [[0, 1], [100, 99]]},
    "convert": {"metric": "temperature", "to": "degF", "unit": "Cel"},
    "deadband": {"metric": "temperature", "width": 0.1},
    "deduplicate": {"within": "10 s"},
    "derive": {"metric": "double", "expression": "2 * temperature"},
    "downsample": {"every": "1 min"},
    "range": {"metric": "temperature", "low": 0},
    "rate": {"metric": "temperature", "max_rise": 1.0},
    "scale": {"metric": "temperature", "factor": 2},
    "select": {"drop": ["debug.*"]},
    "stuck": {"metric": "temperature", "longer_than": "1 h"},
    "swinging_door": {"metric": "temperature", "width": 0.1},
    "tag": {"tags": {"site": "north"}},
}


def test_every_step_is_in_this_test():
    assert set(NAMES.own) == set(OPTIONS)


@pytest.mark.parametrize("name", OPTIONS)
async def test_steps_are_made_by_name(name):
    step = create_processor(name, OPTIONS[name])
    assert step.get_processor_name().partition(":")[0] == name
    again = create_processor(name, load_config_class(name)(**OPTIONS[name]))
    assert (await again.process([reading()])).success


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("wrong", [{"no_such": 1}, {"metric": ""}, {"metric": 5}, {"tags": {}}])
def test_wrong_options_are_refused(name, wrong):
    with pytest.raises(ValueError):
        create_processor(name, OPTIONS[name] | wrong)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("deadband", {"width": -1}),
        ("deadband", {"width": "0.1"}),
        ("deadband", {"keep_every": 0}),
        ("range", {"low": float("nan")}),
        ("scale", {"factor": float("inf")}),
        ("alarm", {"below": 40}),
        ("alarm", {"above": None}),
        ("alarm", {"hysteresis": -1}),
        ("aggregate", {"functions": []}),
        ("aggregate", {"functions": ["median"]}),
        ("aggregate", {"every": 0}),
        ("calibrate", {"points": [[0, 1]]}),
        ("calibrate", {"points": [[0, 1], [0, 2]]}),
        ("calibrate", {"polynomial": [1]}),
        ("calibrate", {"points": None}),
        ("convert", {"to": "V"}),
        ("convert", {"to": "Celsius"}),
        ("convert", {"unit": "degrees"}),
        ("derive", {"expression": "2 *"}),
        ("rate", {"max_rise": None}),
        ("rate", {"max_rise": 0}),
        ("select", {"drop": None}),
        ("select", {"rename": {"a": "c", "b": "c"}}),
        ("swinging_door", {"width": 0}),
    ],
)
def test_senseless_numbers_are_refused(name, wrong):
    with pytest.raises(ValueError):
        create_processor(name, OPTIONS[name] | wrong)


def test_unknown_step_names_those_there_are():
    with pytest.raises(ValueError, match=r"there are aggregate, alarm, calibrate, .*, tag"):
        load_config_class("fft")


async def test_a_step_on_many_readings_leaves_the_loop_to_others():
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    step = Scale(ScaleOptions(metric="temperature", factor=2.0))
    serving = asyncio.create_task(others())
    scaled = await kept(step, *(reading(n) for n in range(10_000)))
    serving.cancel()
    assert scaled == [n * 2.0 for n in range(10_000)]
    assert turns >= 19  # a turn after every 500
