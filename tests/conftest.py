"""What holds for every test."""

import pytest
from blockbuster import blockbuster_ctx


@pytest.fixture(autouse=True)
def _no_blocking_call_on_the_event_loop():
    """A call of ours that blocks the loop is an error; what a test itself does on its loop is its own affair."""
    with blockbuster_ctx(["agent", "buffer", "collectors", "drivers"]):
        yield
