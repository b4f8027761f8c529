import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from collectors.units import DurationS, SizeBytes, WholeSeconds

SIZE, DURATION, WHOLE = TypeAdapter(SizeBytes), TypeAdapter(DurationS), TypeAdapter(WholeSeconds)


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("2 GB", 2 * 10**9), ("512MiB", 512 << 20), ("1.5 kB", 1500), (" 4 kib ", 4096), (7, 7)],
)
def test_sizes(text, size):
    assert SIZE.validate_python(text) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("1", 1), ("500 ms", 0.5), ("7 days", 604800), ("2h", 7200), ("1 min", 60), (0.25, 0.25)],
)
def test_durations(text, seconds):
    assert DURATION.validate_python(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), [(0, 0), ("0 s", 0), ("500 ms", 1), (1.5, 2), ("1 min", 60)])
def test_whole_seconds_are_rounded_up(text, seconds):
    assert WHOLE.validate_python(text) == seconds


@pytest.mark.parametrize("text", [-1, "-1 s", float("inf"), float("nan"), "soon", None])
def test_what_is_no_whole_seconds_is_refused(text):
    with pytest.raises(ValidationError):
        WHOLE.validate_python(text)


@pytest.mark.parametrize(
    "text", ["", "GB", "2 parsecs", "-1 s", "0 s", "1e3 s", "nan", float("nan"), -1, True and "yes"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValidationError):
        DURATION.validate_python(text)


@pytest.mark.parametrize("kind", [SIZE, DURATION, WHOLE])
def test_what_no_number_can_hold_is_refused(kind):
    with pytest.raises(ValidationError):
        kind.validate_python("9" * 400)


@given(st.text())
def test_any_text_is_a_size_or_refused(text):
    with contextlib.suppress(ValidationError):
        assert SIZE.validate_python(text) > 0
