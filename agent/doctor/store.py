"""The buffer: is it there, may it be read, is it sound, what is set aside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agent.dead_letters import TABLE as DEAD_LETTERS
from agent.partition import NotMountedError, require_mounted
from agent.status.text import counted
from buffer.errors import NoBuffer
from buffer.inspection import Inspection
from buffer.verification import verify
from drivers.examination import ok, problem, unknown, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.examination import Finding


def findings(path: Path, *, deep: bool, runs: bool, root: Path = Path("/")) -> Iterator[Finding]:
    """What is known about it. Reads files: blocks.

    Args:
        path: The buffer's directory.
        deep: Check every byte.
        runs: The agent has it open.
        root: Where etc and proc are, for tests.
    """
    try:
        require_mounted(path, root)
    except NotMountedError as error:
        # What to do about it is said of the disk. Below its partition, nothing says whether there is one.
        yield unknown("buffer", str(error))
        return
    try:
        inspection = Inspection(path)
    except NoBuffer as error:
        if runs:
            yield problem(
                "buffer", f"{error}, though the agent runs", "restart it: sudo systemctl restart outstation"
            )
        else:
            yield ok("buffer", "there is none yet: it is made at the first start")
        return
    except PermissionError as error:
        yield unknown("buffer", str(error), "run this as the user the agent runs as, or as root")
        return
    yield from _sound(inspection, deep=deep)
    if quarantine := inspection.quarantine():
        yield warning(
            "buffer",
            f"{counted(len(quarantine), 'damaged file')} set aside: power cuts, or a card that wears out",
            "`outstation buffer ls` lists them; without power cuts before, use another card",
        )
    letters = inspection.table(DEAD_LETTERS)
    if count := letters.count(1, letters.durable_id):
        yield warning(
            "dead letters",
            f"{count} frames, messages or batches could not be decoded, processed or delivered",
            "`outstation dead-letters list` says why; after a fix: `outstation dead-letters requeue`",
        )


def _sound(inspection: Inspection, *, deep: bool) -> Iterator[Finding]:
    remedy = "`outstation buffer verify` says what is lost; stop the agent and run `outstation buffer repair`"
    if deep:
        verdict = verify(inspection)
        if verdict.sound:
            yield ok("buffer", f"sound: every byte of {verdict.records:,} records was checked")
        else:
            yield problem(
                "buffer", "damaged" if verdict.damages or verdict.state else "files are missing", remedy
            )
        return
    table = inspection.readings
    count = table.count(1, table.durable_id)
    lost = sum(loss.count for loss in table.losses)
    if lost or inspection.journal.damaged:
        what = (
            f"unreadable or missing: {counted(lost, 'reading')}" if lost else "its small tables are damaged"
        )
        yield problem("buffer", what, remedy)
    else:
        yield ok(
            "buffer", f"{counted(count, 'reading')}; nothing is wrong at a glance (--deep checks every byte)"
        )
