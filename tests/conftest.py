"""What holds for every test."""

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import settings

# Examples share two cores with everything else: a slow one says nothing about what it tests.
settings.register_profile("outstation", deadline=None)
settings.load_profile("outstation")


@pytest.fixture(autouse=True)
def _no_blocking_call_on_the_event_loop():
    """A call of ours that blocks the loop is an error; what a test itself does on its loop is its own affair."""
    with blockbuster_ctx(["agent", "buffer", "collectors", "drivers"]):
        yield
