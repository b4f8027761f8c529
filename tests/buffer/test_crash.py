"""Power cuts, failing syncs and full disks at every operation: nothing durable is lost."""

import pytest

from tests.buffer.crash_model import Life


@pytest.mark.parametrize("block", range(20))
def test_random_lives(block):
    for seed in range(block * 50, block * 50 + 50):
        Life(seed).run()
