"""Repairing a buffer: every intact frame is kept, every damaged file too, in the quarantine.

The agent must be stopped. The buffer is opened, which recovers what a crash left, and each damaged
segment is written anew as a running buffer does it when it first reads it: complete under a temporary
name, synced, renamed; only then is the damaged file moved away. So a crash, or a kill, at any step
leaves what the next repair, or start, goes on with; and a second repair finds nothing to do.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from buffer.database import BufferDB
from buffer.errors import BufferLocked, StoreError
from buffer.filesystem import FileSystem, SystemFileSystem
from buffer.inspection import Inspection, lock_holder
from buffer.verification import Verdict, verify


class IdentityLost(StoreError, RuntimeError):
    """Whose readings these are is not known any more: say it."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair did."""

    found: Verdict
    """What was damaged before."""
    kept: list[str] = field(default_factory=list)
    """The damaged files, under the names they have in the quarantine now."""
    entered: int = 0
    """How many records were entered in the loss ledger."""


def repair(
    path: str,
    *,
    device_id: str | None = None,
    machine_id: str | None = None,
    fs: FileSystem | None = None,
    progress: Callable[[int, int], object] = lambda _done, _all: None,
) -> Repaired:
    """Salvage what is intact of damaged files, and set these aside.

    Args:
        path: The buffer's directory.
        device_id: Whose readings these are, should the buffer not know it any more.
        machine_id: Which machine this is; likewise.
        fs: The file system; this machine's unless given.
        progress: As for `verify`.

    Raises:
        NoBuffer: There is no buffer in it.
        BufferLocked: A process has it open.
        IdentityLost: It does not know whose readings it has, and nobody said it.
        DiskFault: The disk refused; what was done so far is good, and a further repair goes on.
        OSError: Likewise.
    """
    fs = SystemFileSystem() if fs is None else fs
    holder = lock_holder(path)
    if holder is not None:
        raise BufferLocked(f"{path} is open in process {holder}")
    inspection = Inspection(path, fs=fs, in_use=False)
    verdict = verify(inspection, progress)
    if verdict.sound:
        return Repaired(verdict)
    if inspection.epochs:
        device_id, machine_id = inspection.epochs[-1].device_id, inspection.epochs[-1].machine
    if device_id is None:
        raise IdentityLost(f"{path} does not know any more whose readings it has")
    before = inspection.quarantine()
    with BufferDB(
        path,
        fs=fs,
        threaded=False,
        device_id=device_id,
        machine_id=machine_id or "",
        quarantine_files_max=None,
    ) as db:
        for table in verdict.tables:
            log = db.log(table.table)
            bases = {damage.base for damage in table.damages if damage.base is not None}
            for segment in [each for each in log.segments if each.base in bases and each.sealed]:
                log.rewrite(segment)
        if verdict.state:
            db.renew_state()
        db.flush()
    after = Inspection(path, fs=fs, in_use=False)
    known = {file.name for file in before}
    kept = [file.name for file in after.quarantine() if file.name not in known]
    return Repaired(verdict, kept, after.told - inspection.told)
