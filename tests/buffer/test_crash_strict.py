"""As `test_crash.py`, where any change of a directory that was not synced may be lost on its own."""

import pytest

from tests.rigs.crash_points import try_points


@pytest.mark.parametrize("block", range(10))
def test_crash_points_on_unordered_directories(block):
    tried, _ = try_points(510, 500 + block * 1_000, ordered=False)
    assert tried >= 510
