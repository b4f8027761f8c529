"""What holds for every test."""

import signal
from collections import defaultdict
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

# Examples share two cores with everything else: a slow one says nothing about what it tests.
settings.register_profile("outstation", deadline=None)
settings.load_profile("outstation")


# A run in the background of a script, or under nohup, hands ignored signals down to all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_addoption(parser):
    parser.addoption(
        "--crash-points",
        type=int,
        default=0,
        metavar="N",
        help="try N crash points of the buffer beside the everyday ones (tests/buffer/test_crash.py)",
    )
    parser.addoption(
        "--power-seeds",
        type=int,
        default=0,
        metavar="N",
        help="cut the power of N buffers more than usual, on recorded disks (tests/buffer/test_power.py)",
    )
    parser.addoption(
        "--power-cuts",
        type=int,
        default=3,
        metavar="N",
        help="pull the plug of a whole machine N times (tests/install/test_power_cuts.py)",
    )
    parser.addoption(
        "--crash-seed", type=int, default=1_000_000, metavar="N", help="the first seed of --crash-points"
    )
    parser.addoption(
        "--storm-readings",
        type=int,
        default=20_000,
        metavar="N",
        help="the backlog that drains through the storm (tests/journeys/test_nothing_is_lost.py)",
    )
    parser.addoption("--storm-faults", type=int, default=12, metavar="N", help="network faults of the storm")


WAITING = ("captures", "discover", "firmware", "install", "journeys", "receiver")
"""Folders of tests that mostly wait: for programs, terminals and brokers."""
WAITING_UNTIL = 0.85
"""They are done when so much of the run is: a long one does not come last, with nobody beside it."""


def pytest_collection_modifyitems(config, items):
    """Where several processes share the tests, waiting and computing are mixed: no core is idle, none is fought over."""
    if not hasattr(config, "workerinput"):
        return
    files = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    places = {}
    for share, group in (
        (WAITING_UNTIL, [file for file in files if _waits(file)]),
        (1.0, [file for file in files if not _waits(file)]),
    ):
        places |= {file: share * (place + 0.5) / len(group) for place, file in enumerate(group)}
    items[:] = [item for file in sorted(files, key=places.__getitem__) for item in files[file]]


def _waits(file):
    return file.relative_to(Path(__file__).parent).parts[0] in WAITING


@pytest.fixture(autouse=True)
def _no_blocking_call_on_the_event_loop():
    """A call of ours that blocks the loop is an error; what a test itself does on its loop is its own affair."""
    with blockbuster_ctx(["agent", "buffer", "collectors", "drivers"]):
        yield


@pytest.fixture(scope="session")
def postgres():
    """A PostgreSQL for all tests of this process; each takes a database of its own (`new_database`)."""
    from tests.rigs.postgres import Postgres

    with Postgres() as server:
        yield server
