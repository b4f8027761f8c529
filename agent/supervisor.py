"""Keeps a part of the program running: what fails is reported through the error flow and started again.

Sources have the same from the collection manager, link by link; this is for everything else: upstreams,
acknowledgements, buffer watch, clock watch, status socket.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.spine.backoff import LOCAL, Backoff, BackoffPolicy
from agent.spine.cancellation import is_being_cancelled
from agent.spine.errors import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.spine.spine import Spine

_log = logging.getLogger(__name__)


def supervise(
    spine: Spine,
    task_type: str,
    subject: str,
    run: Callable[[], Awaitable[None]],
    *,
    layer: str,
    policy: BackoffPolicy = LOCAL,
) -> str:
    """Run something for as long as the program does; returns its task id.

    `run` is awaited again after it failed, with jittered back-off, and ends the supervision when it
    returns. A failure that repeats is reported once until it runs stably again or fails differently.
    """

    async def keep_running() -> None:
        backoff = Backoff(policy, spine.rng)
        told = ""
        while True:
            started_s = spine.clock.monotonic_s()
            backoff.established(started_s)
            try:
                await run()
            except Exception as error:
                if is_being_cancelled():
                    # It was told to end: what it raises as it cleans up must not start it again.
                    _log.warning("%s %s: %s, while it was stopped", task_type, subject, describe(error))
                    raise asyncio.CancelledError from error
                now_s = spine.clock.monotonic_s()
                if now_s - started_s >= policy.stable_s:
                    told = ""
                if repr(error) != told:
                    told = repr(error)
                    _log.debug("%s %s failed", task_type, subject, exc_info=error)
                    await spine.errors.report(
                        error, layer=layer, operation=task_type, critical=True, subject=subject
                    )
                await asyncio.sleep(backoff.delay_s(now_s))
            else:
                return

    task_id, _ = spine.start(task_type, keep_running(), layer=layer, subject=subject)
    return task_id
