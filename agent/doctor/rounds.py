"""All checks at once, each with a time of its own: none waits for another, and none ends another."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from agent.spine.errors import describe
from drivers.examination import unknown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from drivers.examination import Finding

CHECK_TIMEOUT_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at."""

    name: str
    subject: str
    """What it is about, should it come to nothing."""
    look: Callable[[], Awaitable[Sequence[Finding]]]
    timeout_s: float | None = CHECK_TIMEOUT_S
    """None: as long as it takes, since somebody asked for it."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a check found."""

    check: str
    findings: Sequence[Finding]


async def examine(checks: Sequence[Check]) -> list[Report]:
    """Make all checks; what they found, in their order."""
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(_examine(check), name=f"doctor:{check.name}:{check.subject}")
            for check in checks
        ]
    return [task.result() for task in running]


async def _examine(check: Check) -> Report:
    try:
        async with asyncio.timeout(check.timeout_s) as limit:
            return Report(check.name, await check.look())
    except TimeoutError as error:
        over = f"not done within {check.timeout_s:g} s: it hangs, or this machine is very busy"
        return Report(check.name, [unknown(check.subject, over if limit.expired() else describe(error))])
    except Exception as error:  # noqa: BLE001 (a check that fails is a finding; it must not end the others)
        return Report(check.name, [unknown(check.subject, f"{type(error).__name__}: {describe(error)}")])
