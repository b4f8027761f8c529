"""Steps that change what a reading says: calibrate, convert, select, derive; and those that leave readings out."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.processors.calibrate import Calibrate, CalibrateOptions
from agent.processors.convert import UNITS, Convert, ConvertOptions
from agent.processors.deduplicate import Deduplicate, DeduplicateOptions
from agent.processors.derive import Derive, DeriveOptions
from agent.processors.downsample import Downsample, DownsampleOptions
from agent.processors.expression import Expression, MissingMetric
from agent.processors.select import Select, SelectOptions
from collectors import Lane, Quality, QualityFlag, Reading

numbers = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)


def reading(t=0.0, units=None, **values):
    return Reading(source="soil", t=t, values=values, units=units or {})


async def one(step, data):
    result = await step.process([data])
    assert result.success, result.error
    return result.processed_data[0] if result.processed_data else None


async def refusal(step, data):
    result = await step.process([data])
    assert not result.success
    return result.error


# Calibrate


@pytest.mark.parametrize(
    ("shown", "true"), [(0, 1), (50, 51), (100, 101), (150, 111), (200, 121), (-50, -49), (300, 141)]
)
async def test_points_are_joined_by_straight_lines(shown, true):
    step = Calibrate(CalibrateOptions(metric="x", points=[[100, 101], [0, 1], [200, 121]]))
    calibrated = await one(step, reading(x=shown))
    assert calibrated.values["x"] == pytest.approx(true)
    assert (calibrated.quality == {}) is (0 <= shown <= 200)


async def test_polynomial_and_its_unit():
    step = Calibrate(CalibrateOptions(metric="x", polynomial=[1.0, 2.0, 3.0], unit="Cel"))
    calibrated = await one(step, reading(x=2, units={"x": "V"}))
    assert (calibrated.values["x"], calibrated.units) == (17.0, {"x": "Cel"})


async def test_beyond_the_points_is_said():
    step = Calibrate(CalibrateOptions(metric="x", points=[[0, 0], [10, 20]]))
    assert (await one(step, reading(x=11))).quality["x"] == Quality(
        flag=QualityFlag.UNCERTAIN, reason="11 is outside the calibrated 0 to 10"
    )


@given(numbers, st.lists(st.floats(-1e308, 1e308), min_size=1, max_size=5))
async def test_calibrated_readings_are_always_valid(value, polynomial):
    calibrated = await one(Calibrate(CalibrateOptions(metric="x", polynomial=polynomial)), reading(x=value))
    assert Reading.from_document(calibrated.to_document()).values == calibrated.values


# Convert


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (100, "Cel", "degF", 212),
        (-40, "degF", "Cel", -40),
        (0, "K", "Cel", -273.15),
        (1013.25, "hPa", "Pa", 101325),
        (14.6959487755, "psi", "hPa", 1013.25),
        (36, "km/h", "m/s", 10),
        (1, "kWh", "J", 3.6e6),
        (50, "%", "/", 0.5),
        (180, "deg", "rad", math.pi),
        (60, "l/min", "m3/s", 1e-3),
        (1, "lb", "g", 453.59237),
    ],
)
async def test_units_are_converted(value, unit, to, expected):
    converted = await one(Convert(ConvertOptions(metric="x", to=to)), reading(x=value, units={"x": unit}))
    assert converted.values["x"] == pytest.approx(expected)
    assert converted.units["x"] == to


async def test_a_source_that_does_not_say_its_unit():
    step = Convert(ConvertOptions(metric="x", to="hPa", unit="kPa"))
    assert (await one(step, reading(x=100))).values["x"] == pytest.approx(1000)
    assert (await one(step, reading(x=100, units={"x": "hPa"}))).values["x"] == 100


async def test_what_cannot_be_converted_says_why():
    step = Convert(ConvertOptions(metric="x", to="hPa"))
    assert "has no unit: say in `unit`" in await refusal(step, reading(x=1))
    assert "is in Cel, a temperature; hPa is a pressure" in await refusal(
        step, reading(x=1, units={"x": "Cel"})
    )
    assert "did you mean 'kPa'" in await refusal(step, reading(x=1, units={"x": "kpa"}))


@given(st.sampled_from(sorted(UNITS)), st.data(), st.floats(-1e9, 1e9))
async def test_there_and_back_is_the_same(unit, data, value):
    to = data.draw(st.sampled_from([name for name in UNITS if UNITS[name].kind == UNITS[unit].kind]))
    there = await one(Convert(ConvertOptions(metric="x", to=to)), reading(x=value, units={"x": unit}))
    back = await one(Convert(ConvertOptions(metric="x", to=unit)), there)
    assert back.values["x"] == pytest.approx(value, rel=1e-9, abs=1e-6)


# Select


async def test_select_keeps_drops_and_renames():
    step = Select(SelectOptions(keep=["air.*", "ok"], drop=["air.raw"], rename={"air.t": "temperature"}))
    data = Reading(
        source="s",
        t=0,
        values={"air.t": 1, "air.raw": 2, "ok": True, "other": 3},
        units={"air.t": "Cel", "other": "V"},
        quality={"air.t": Quality(flag=QualityFlag.BAD)},
    )
    selected = await one(step, data)
    assert selected.values == {"temperature": 1, "ok": True}
    assert selected.units == {"temperature": "Cel"}
    assert selected.quality == {"temperature": Quality(flag=QualityFlag.BAD)}


async def test_a_reading_with_nothing_left_is_dropped():
    assert await one(Select(SelectOptions(drop=["*"])), reading(x=1)) is None


async def test_two_metrics_never_get_one_name():
    step = Select(SelectOptions(rename={"x": "y"}))
    assert "a metric 'y' already" in await refusal(step, reading(x=1, y=2))


# Deduplicate and downsample


async def test_the_same_again_is_dropped_for_a_time():
    step = Deduplicate(DeduplicateOptions(within="10 s"))
    sequence = [(0, 1), (5, 1), (10, 1), (11, 1), (12, 2), (13, 1)]
    passed = [t for t, value in sequence if await one(step, reading(t=t, x=value)) is not None]
    assert passed == [0, 11, 12, 13]


async def test_a_counter_can_tell_repetitions():
    step = Deduplicate(DeduplicateOptions(within="1 h", by=["n"]))
    assert await one(step, reading(n=1, x=5)) is not None
    assert await one(step, reading(n=1, x=6)) is None
    assert await one(step, reading(n=2, x=6)) is not None
    assert await one(step, reading(x=6)) is not None, "it has no counter"


async def test_one_reading_in_a_time_is_kept():
    step = Downsample(DownsampleOptions(every="10 s"))
    passed = [t for t in range(35) if await one(step, reading(t=t, x=t)) is not None]
    assert passed == [0, 10, 20, 30]
    alarm = reading(t=31, x=0).changed(lane=Lane.ALARM)
    assert await one(step, alarm) is alarm


# Derive


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("temperature - (100 - humidity) / 5", 10.0),
        ("air.t * 2", 6.0),
        ("temperature if temperature > 25 else -temperature", -20.0),
        ("max(temperature, humidity, 3)", 50.0),
        ("temperature ** 0.5 + pi * 0", math.sqrt(20)),
        ("1 < 2 < 3 and not 0", 1.0),
        ("round(humidity / 3, 2)", 16.67),
        ("hypot(3, 4) + open", 6.0),
    ],
)
def test_expressions(expression, result):
    values = {"temperature": 20, "humidity": 50.0, "air.t": 3, "open": True}
    assert Expression(expression).evaluate(values) == pytest.approx(result)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("__import__('os').system('true')", "cannot have"),
        ("open('/etc/passwd')", "there is no function 'open'"),
        ("(lambda: 1)()", "cannot have"),
        ("[x for x in y]", "cannot have"),
        ("x[0]", "cannot have"),
        ("'a' * 9", "cannot have"),
        ("f'{x}'", "cannot have"),
        ("x := 1", "not an expression"),
        ("max(x, key=abs)", "no function|cannot have"),
        ("1 +", "not an expression"),
        ("", "not an expression"),
        ("x" * 2000, "1000 characters"),
        ("+".join(["1"] * 400), "too many parts"),
        ("-" * 900 + "x", "too many parts|nested too deeply"),
        ("1" + "0" * 400, "number is too large"),
    ],
)
def test_what_is_no_expression_says_why(expression, says):
    with pytest.raises(ValueError, match=says):
        Expression(expression)


@pytest.mark.parametrize(
    ("expression", "says"),
    [
        ("1 / x", "division by zero"),
        ("9 ** 9 ** 9", "too large"),
        ("exp(1000)", "too large"),
        ("sqrt(x - 1)", "math domain error"),
        ("log(x)", "math domain error"),
        ("max()", "at least 1 argument"),
        ("text + 1", "text is a text, 'warm'"),
    ],
)
def test_what_has_no_result_says_why(expression, says):
    with pytest.raises(ValueError, match=says):
        Expression(expression).evaluate({"x": 0, "text": "warm"})


def test_a_metric_that_is_not_there_is_told():
    with pytest.raises(MissingMetric):
        Expression("a.__class__.__bases__").evaluate({"a": 1})


@given(st.text(max_size=60), st.dictionaries(st.sampled_from(["x", "y", "a.b"]), numbers))
def test_no_text_does_anything_but_calculate(text, values):
    try:
        result = Expression(text).evaluate(values)
    except (ValueError, MissingMetric):
        return
    assert math.isfinite(result)


async def test_derive_adds_a_metric_with_the_worst_quality_of_what_went_in():
    step = Derive(DeriveOptions(metric="sum", expression="x + y", unit="V"))
    bad, doubt = Quality(flag=QualityFlag.BAD), Quality(flag=QualityFlag.UNCERTAIN)
    derived = await one(step, reading(x=1, y=2).changed(quality={"x": doubt, "y": bad}))
    assert derived.values == {"x": 1, "y": 2, "sum": 3.0}
    assert derived.units == {"sum": "V"}
    assert derived.quality["sum"] == bad
    assert (await one(step, reading(x=1))).values == {"x": 1}
