import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from agent.config.units import DurationS, SizeBytes

SIZE, DURATION = TypeAdapter(SizeBytes), TypeAdapter(DurationS)


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


@pytest.mark.parametrize(
    "text", ["", "GB", "2 parsecs", "-1 s", "0 s", "1e3 s", "nan", float("nan"), -1, True and "yes"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValidationError):
        DURATION.validate_python(text)


@given(st.text())
def test_any_text_is_a_size_or_refused(text):
    with contextlib.suppress(ValidationError):
        assert SIZE.validate_python(text) > 0
