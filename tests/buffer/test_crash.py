"""Power cuts, failing syncs and full disks at random operations: nothing durable is lost."""

import pytest

from tests.buffer.crash_model import Life

FOUND = (7, 56, 63, 108, 153, 577, 787, 1094, 1319, 1564, 1945, 4424, 6217, 9880, 15496, 42852)
"""Seeds that once found a fault: ids reused after a failed rolling, a close or a repair; a consumer
ahead of the disk after a failed registration; a change half decided; a tombstone outliving its record;
an empty sealed file hiding its active one."""


@pytest.mark.parametrize("seed", FOUND)
def test_lives_that_once_went_wrong(seed):
    Life(seed).run()


@pytest.mark.parametrize("block", range(20))
def test_random_lives(block):
    for seed in range(block * 50, block * 50 + 50):
        Life(seed).run()
