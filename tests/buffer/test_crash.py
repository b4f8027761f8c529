"""Power cuts, failing syncs and full disks at any moment: nothing durable is lost.

Directories behave as ext4's here, and as strictly as POSIX allows in `test_crash_strict.py`. Many more
crash points, in as many processes as there are cores:

    pytest tests/buffer/test_crash.py --crash-points 1000000 [--crash-seed 1000000]
"""

import os
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace

import pytest

from tests.rigs.crash_points import CrashPoints, random_plan, try_points

_SHARE = 2_000
"""How many crash points a process tries at a time."""
_SEEDS_APART = 1_000
_ONCE_BROKE_A_PROMISE = (
    (51_003_027, False),
    (47_011_031, True),
    (200_049_015, True),
    (230_002_028, False),
    (240_033_019, True),
    (220_026_021, False),
    (601_027_020, False),
    (802_004_017, True),
    (803_022_022, False),
    (814_015_025, True),
)
"""Seeds, and whether directories were ordered."""


@pytest.mark.parametrize(("seed", "ordered"), _ONCE_BROKE_A_PROMISE)
def test_what_once_broke_a_promise(seed, ordered):
    assert CrashPoints(replace(random_plan(seed), ordered=ordered)).run() > 0


@pytest.mark.parametrize("block", range(10))
def test_crash_points_on_ordered_directories(block):
    tried, _ = try_points(510, block * _SEEDS_APART, ordered=True)
    assert tried >= 510


@pytest.mark.timeout(0)
def test_as_many_crash_points_as_asked_for(pytestconfig, capsys):
    asked = pytestconfig.getoption("crash_points")
    first = pytestconfig.getoption("crash_seed")
    tried = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        shares = [
            pool.submit(try_points, _SHARE, first + at * _SEEDS_APART) for at in range(-(-asked // _SHARE))
        ]
        for share in as_completed(shares):
            try:
                tried += share.result()[0]
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    if asked:
        with capsys.disabled():
            sys.stdout.write(f"\n{tried:,} crash points tried, none broke a promise\n")
    assert tried >= asked
