"""Power cuts of real processes on recorded disks: no promise is broken, nothing is unreadable.

Here the buffer's own system calls, and what a real ext4 makes of them, are cut, where `test_crash.py`
has a model of a disk in their place. More of them, with other seeds:

    pytest tests/buffer/test_power.py --power-seeds 20
"""

import os
import tempfile
from pathlib import Path

import pytest

from tests.rigs.power_states import BrokenPromise, record_blocks, record_files, try_blocks, try_files

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        os.geteuid() != 0,
        reason="needs root, /dev/fuse, loop devices and ext4; ./install.sh test in CI is root",
    ),
]
STEPS = 50
STATES = 120
_FURTHER_SEED = 1_000


@pytest.fixture
def place():
    """In memory: what a disk takes a minute for."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


def cut_files(place, seed):
    log = record_files(place, seed, STEPS)
    return try_files(log, place, seed, ordered=seed % 4 < 2)


def cut_blocks(place, seed):
    image, log = record_blocks(place, seed, STEPS)
    try_blocks(image, log, place, seed, states=STATES)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_sectors_and_names_a_cut_leaves(place, seed):
    assert cut_files(place, seed) > 100


@pytest.mark.parametrize(
    "seed", [1, 5]
)  # small files, which commits make longer; larger ones, which they fill
def test_whatever_blocks_of_an_ext4_a_cut_leaves(place, seed):
    cut_blocks(place, seed)


def test_syncs_that_do_nothing_are_noticed_in_sectors(place):
    log = record_files(place, 1, STEPS, "unsynced")
    with pytest.raises(BrokenPromise, match="seed 1"):
        try_files(log, place, 1)


def test_syncs_that_do_nothing_are_noticed_in_blocks(place):
    image, log = record_blocks(place, 1, STEPS, "unsynced")
    with pytest.raises(BrokenPromise, match="seed 1"):
        try_blocks(image, log, place, 1, states=STATES)


@pytest.mark.timeout(0)
def test_as_many_cuts_as_asked_for(pytestconfig):
    asked = pytestconfig.getoption("power_seeds")
    for seed in range(_FURTHER_SEED, _FURTHER_SEED + asked):
        for cut in (cut_files, cut_blocks):
            with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
                cut(Path(directory), seed)
