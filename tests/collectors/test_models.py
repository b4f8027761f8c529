from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from collectors import (
    ClockQuality,
    CollectedData,
    CollectionStatistics,
    ErrorInfo,
    ErrorType,
    Lane,
    Origin,
    ParsedMetadata,
    ProcessingResult,
    Quality,
    QualityFlag,
    QueryCriteria,
    Reading,
    SystemClock,
    TaskInfo,
    TaskStatus,
    to_utc,
)

names = st.text(min_size=1, max_size=5)
short = st.text(max_size=5)
values = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | short
)
readings = st.builds(
    Reading,
    source=names,
    t=st.floats(-(10**10), 10**10),
    values=st.dictionaries(names, values, min_size=1, max_size=4),
    units=st.dictionaries(names, short, max_size=2),
    tags=st.dictionaries(names, short, max_size=2),
    quality=st.dictionaries(
        names, st.builds(Quality, flag=st.sampled_from(QualityFlag), reason=short), max_size=2
    ),
    indicators=st.dictionaries(names, st.floats(allow_nan=False, allow_infinity=False), max_size=2),
    clock=st.sampled_from(ClockQuality),
    t_error=st.none() | st.floats(0, 1e9),
    t_sensor=st.none() | st.floats(-1e12, 1e12),
    t_arrived=st.none() | st.floats(-1e12, 1e12),
    boot=st.integers(0, 2**31),
    up=st.integers(0, 2**62),
    lane=st.sampled_from(Lane),
    origin=st.none() | st.builds(Origin, client=names, packet=st.integers(1, 65535), payload_hash=names),
)


@given(readings)
def test_reading_survives_its_document_and_json(reading):
    document = from_json(to_json(reading.to_document()), allow_inf_nan=False)
    again = Reading.from_document(document)
    assert again == reading.model_copy(update={"t": round(reading.t, 6)})
    assert [type(value) for value in again.values.values()] == [type(v) for v in reading.values.values()]


def test_document_leaves_out_what_is_as_usual():
    assert Reading(source="soil", t=1.23456789, values={"a": 1}).to_document() == {
        "source": "soil",
        "t": 1.234568,
        "values": {"a": 1},
    }


@pytest.mark.parametrize(
    "wrong",
    [
        {"values": {}},
        {"values": {"": 1}},
        {"values": {"a": None}},
        {"values": {"a": float("nan")}},
        {"values": {"a": float("inf")}},
        {"values": {"a": 2**63}},
        {"values": {"a": [1]}},
        {"source": ""},
        {"t": float("nan")},
        {"t": "now"},
        {"boot": -1},
        {"unknown": 1},
        {"origin": ["device", 0, "ab"]},
        {"origin": ["device"]},
        {"quality": {"a": ["bad"]}},
        {"quality": {"a": ["awful", ""]}},
    ],
)
def test_document_that_is_no_reading_is_refused(wrong):
    with pytest.raises(ValueError):
        Reading.from_document({"source": "soil", "t": 1.0, "values": {"a": 1}} | wrong)


@given(
    st.datetimes(
        timezones=st.just(UTC) | st.builds(timezone, st.timedeltas(-timedelta(hours=14), timedelta(hours=14)))
    ).filter(lambda when: 1 < when.year < 9999)
)
def test_every_time_is_the_same_instant_in_utc(when):
    assert to_utc(when) == when
    assert to_utc(when).tzinfo is UTC


def test_naive_time_is_local_time():
    naive = datetime(2026, 1, 1, 12, 0)  # noqa: DTZ001 (that is the case)
    assert to_utc(naive) == naive.astimezone()


@pytest.mark.parametrize(
    ("model", "fields"),
    [
        (
            CollectedData,
            {
                "source_id": "",
                "timestamp": datetime.now(UTC),
                "data_format": "json",
                "collection_method": "x",
                "raw_data": b"",
            },
        ),
        (
            CollectedData,
            {
                "source_id": "a",
                "timestamp": datetime.now(UTC),
                "data_format": "json",
                "collection_method": "x",
            },
        ),
        (CollectionStatistics, {"success_count": -1}),
        (CollectionStatistics, {"average_processing_time": float("nan")}),
        (ProcessingResult, {"success": True, "processing_time": -1.0}),
        (QueryCriteria, {"limit": -1}),
        (
            TaskInfo,
            {
                "task_id": "a",
                "task_type": "b",
                "status": TaskStatus.PENDING,
                "created_at": datetime.now(UTC),
                "progress": 1.5,
            },
        ),
        (
            ErrorInfo,
            {
                "error_type": "other",
                "timestamp": datetime.now(UTC),
                "layer_name": "a",
                "operation": "b",
                "message": "",
            },
        ),
    ],
)
def test_invalid_models_are_refused(model, fields):
    with pytest.raises(ValidationError):
        model(**fields)


def test_assignments_are_checked():
    result = ProcessingResult(success=True)
    with pytest.raises(ValidationError):
        result.processing_time = -1.0
    result.processing_time = 0.5


def test_schema_is_a_field_and_pydantics_own_methods_still_work():
    parsed = ParsedMetadata(schema={"a": 1}, quality_indicators={}, source_attributes={}, is_valid=True)
    assert parsed.schema == {"a": 1}
    assert parsed.model_dump()["schema"] == {"a": 1}
    assert ParsedMetadata.model_validate_json(parsed.model_dump_json()) == parsed


def test_enumerations_are_texts():
    assert ErrorType.CONNECTION == "connection"
    assert to_json(TaskStatus.RUNNING) == b'"running"'


def test_system_clock_is_aware_and_never_steps_back():
    clock = SystemClock()
    assert clock.now().tzinfo is UTC
    assert clock.boottime_ns() <= clock.boottime_ns()
    assert clock.monotonic_s() <= clock.monotonic_s()
