"""Whether the present task was told to end: an exception of its clean-up must not keep it running."""

from __future__ import annotations

import asyncio


def is_being_cancelled() -> bool:
    """Whether somebody has cancelled the present task. Time-outs and task groups take their own cancellations back."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
