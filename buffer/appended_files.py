"""The file that a table appends to: what waits is committed to it; it is sealed when it is full, and let go when it fails."""

import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from buffer.errors import DiskFault
from buffer.filesystem import FileSystem
from buffer.lanes import AlarmPages
from buffer.layout import ID_MAX, TAIL, Run
from buffer.loss import NEVER_ISSUED, Loss
from buffer.losses import Losses
from buffer.pending import Pending, records_of
from buffer.quarantine import Quarantine
from buffer.recovery import PENDING_RECORDS_MAX, Recovered
from buffer.segment import DamagedSegment, Segment
from buffer.streaming import StreamedRecords
from buffer.writer import PREFILL_BYTES, ActiveFile

_JUMP_MAX: Final = 1 << 28


class AppendedFiles(StreamedRecords):
    """The files of one table, the last of which grows. Thread-safe.

    Attributes:
        committed: How many records were committed since it was opened.
        stored_bytes: How many bytes they took.
        fault: What the disk refuses now, None when nothing.
        before_commit: Called before what waits is written, when the file for it is there: makes sure that none of it is
            told as dropped. Raises DiskFault when it cannot.
        before_closing: Called before the last file is sealed. Raises DiskFault; then it is not.
    """

    def __init__(
        self,
        fs: FileSystem,
        root: str,
        table: str,
        *,
        segment_bytes: int,
        pending_bytes_max: int,
        cursor: Callable[[], int],
        quarantine: Quarantine,
        losses: Losses,
        look: Callable[[], object],
        on_recovered: Callable[[Recovered], None] = lambda _: None,
    ) -> None:
        """Open the table and recover it.

        Args:
            fs: The file system.
            root: The buffer's directory.
            table: The table's name.
            segment_bytes: The size at which a file is sealed.
            pending_bytes_max: How much may wait in memory.
            cursor: Up to which id all consumers have acknowledged.
            quarantine: Takes damaged files.
            losses: Takes what cannot be read any more, and ids that are skipped.
            look: Raises DiskFault when the whole buffer is somewhere else.
            on_recovered: Is told what was found, before anything is written.

        Raises:
            OSError: The directory cannot be made or listed.
            ValueError: The table's name cannot be a directory's.
        """
        super().__init__(
            fs,
            root,
            table,
            cursor=cursor,
            quarantine=quarantine,
            losses=losses,
            look=look,
            on_recovered=on_recovered,
        )
        self.committed = 0
        self.stored_bytes = 0
        self.fault: str | None = None
        self.before_commit: Callable[[], None] = lambda: None
        self.before_closing: Callable[[], None] = lambda: None
        self._segment_bytes = segment_bytes
        self._listeners: list[Callable[[], None]] = []
        self._pending = Pending(self.recovered.next_id, pending_bytes_max)
        self._active: ActiveFile | None = None
        try:
            self._begin_active()
        except DiskFault:  # `fault` says so, and the first commit tries again
            self._jump()

    def _jump(self) -> None:
        """Go on with ids far away: no file can say that those from here on were handed out.

        Should the process end before the disk takes anything, the next one will jump elsewhere; so
        `durable_id`, behind which nothing new may ever come, must not jump along.
        """
        jump = PENDING_RECORDS_MAX + secrets.randbelow(_JUMP_MAX)
        before = self._pending.next_id
        self._pending.next_id = min(before + jump, ID_MAX + 1)
        if self._pending.next_id > before:
            self._losses.note(self.table, Loss(before, self._pending.next_id - 1, 0, NEVER_ISSUED))

    @property
    def next_id(self) -> int:
        """The id that the next record gets."""
        return self._pending.next_id

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each commit, on the thread that committed."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call it no longer."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def tell(self) -> None:
        """Call all listeners: something is durable, or nothing will be any more."""
        for listener in tuple(self._listeners):
            listener()

    # -- committing

    def commit(self) -> None:
        """Make all that waits durable.

        Raises:
            DiskFault: The disk refused; what was to be committed waits in memory still.
        """
        while self.commit_once():
            pass

    @property
    def waits(self) -> bool:
        """Whether there is something to commit."""
        return self._pending.records > 0

    def commit_once(self) -> bool:
        """Commit one frame, if there is something to commit. True when there is more.

        Raises:
            DiskFault: As `commit`.
        """
        pending = self._pending
        with self.io:
            with self.lock:
                runs = pending.fill_flight()
            if not runs:
                return False
            try:
                self._write(runs)
            except OSError as error:
                self._abandon_active(error)
                raise DiskFault(f"{self.table}: the disk refuses: {error}") from error
            with self.lock:
                self._landed()
        if self._listeners:
            self.tell()
        return pending.records > 0

    def _write(self, runs: list[Run]) -> None:
        active, pending = self._active, self._pending
        records = pending.flight_records
        if active is None:
            active = self._begin_active(runs[0][0])
        elif (
            active.count and active.end + pending.flight_bytes > self._segment_bytes
        ) or not active.room_for(records):
            active = self._roll(runs[0][0])
        self.before_commit()
        self.bytes_written += active.write(runs, records, self.cursor())

    def _landed(self) -> None:
        active, pending, segment = self._active, self._pending, self.segments[-1]
        assert active is not None
        last, end = active.last, active.end
        assert last > self.durable_id
        if active.alarms and segment.alarms is not None:
            segment.alarms = segment.alarms.plus(active.alarms)
        self.stored_bytes += end - segment.end
        segment.last, segment.count, segment.end = last, active.count, end
        self.durable_id = max(last, pending.dropped_id)
        self.committed += pending.flight_records
        pending.landed()
        self.fault = None

    def keep_of_flight(self, kept: list[tuple[int, bytes]]) -> None:
        """Keep some of what is next to be committed; of the rest it is as if it were durable: a policy dropped it.

        The caller has made the loss durable first.
        """
        with self.lock:
            self._pending.keep_of_flight(kept)
            if not kept:
                self.durable_id = max(self.durable_id, self._pending.dropped_id)
        self.tell()

    def prepare_flight(self) -> bool:
        """Choose what the next commit writes, so that `flight_bytes` tells how much; False when there is nothing."""
        with self.lock:
            return bool(self._pending.fill_flight())

    @property
    def flight_bytes(self) -> int:
        """What the next commit would add at least."""
        return self._pending.flight_bytes

    def flight(self) -> list[tuple[int, bytes]]:
        """What the next commit would write."""
        with self.lock:
            return records_of(self._pending.fill_flight())

    # -- the active file

    @property
    def active_bytes(self) -> int:
        """What the file being written takes, written-ahead space included."""
        return self._active.size if self._active else 0

    @property
    def active_at(self) -> tuple[int, int]:
        """Base and record count of the active file: after which trailer the next one comes."""
        return (self._active.base, self._active.count) if self._active else (self.next_id, 0)

    def _begin_active(self, base: int | None = None) -> ActiveFile:
        """Make the file for what comes next.

        Raises:
            DiskFault: The disk refused.
        """
        if base is None:
            with self.lock:
                base = self._pending.first_id()
        try:
            self._look()
            self._losses.enter()  # the file's name says that nothing else is missing up to here
        except DiskFault as fault:
            self.fault = str(fault)
            raise
        try:
            self._fs.make_directory(self.directory)
            active = ActiveFile(
                self._fs,
                self.directory,
                self.table,
                base,
                self.cursor(),
                prefill_bytes=min(PREFILL_BYTES, self._segment_bytes),
                full_bytes=self._segment_bytes,
                replaces=bool(self.segments) and self.segments[-1].base == base,
            )
        except OSError as error:
            self.fault = f"{self.directory}: {error}"
            raise DiskFault(f"{self.table}: no new file: {error}") from error
        self.bytes_written += active.size
        with self.lock:
            # Ids were given out only above all that is on disk, so the files never overlap.
            assert not self.segments or self.segments[-1].last < base
            while self.segments and not self.segments[-1].count:
                self.segments.pop()  # it failed before it had anything; the new file took its name
            self.segments.append(Segment(base, base - 1, 0, active.end, alarms=AlarmPages()))
        self._active = active
        self._settle(self.recovered)
        return active

    def require_active(self) -> None:
        """Make sure that the directory has an active file, which says what was handed out.

        Raises:
            DiskFault: The disk refused.
        """
        with self.io:
            if self._active is None and not self._pending.closed:
                self._begin_active()

    def tidy(self) -> None:
        """Make what the disk refused good: the file for what comes next, sound ones for those that failed.

        So a fault goes when the disk takes writes again, even where nothing waits to be written.

        Raises:
            DiskFault: The disk refuses still.
        """
        suspects = any(each.suspect for each in self.segments)
        if self.fault is None and not (self.outdated or self._going or suspects):
            return
        with self.io:
            self.require_active()  # the failed one may be all that says so yet
            self.replace_suspects()
            self.remove_outdated()
            self.sync_removals()
            self.drop_missing()
            if not self.waits:  # what waits will tell
                self.fault = None

    def check_place(self) -> None:
        """Notice that somebody removed the file being written; `tidy` goes on from there."""
        with self.io:
            try:
                if self._active is not None:
                    self._active.require_in_place()
            except OSError as error:
                self._abandon_active(error)

    def release(self, segment: Segment) -> None:
        """Let go of the active file when it is the one of this segment, and make the next one.

        Raises:
            DiskFault: The disk refused.
        """
        if segment.sealed or segment is not self.segments[-1]:
            return
        if self._pending.closed:
            raise DiskFault(f"{segment.name} is damaged; the next opening will look at it")
        self._abandon_active(DamagedSegment(segment))
        self.require_active()

    def begin_anew(self) -> None:
        """Put a new active file in the place of one that somebody removed.

        Raises:
            DiskFault: The disk refused.
        """
        if self._pending.closed:
            super().begin_anew()
        self.check_place()
        self.require_active()

    def _roll(self, base: int) -> ActiveFile:
        """Seal the active file, having made the next one, which is returned.

        In this order, since a directory without an active file would look as if nothing had been
        handed out beyond the last sealed one.

        Raises:
            DiskFault: The disk refused.
        """
        old, segment = self._active, self.segments[-1]
        assert old is not None
        self._active = None
        try:
            active = self._begin_active(base)
        except DiskFault:
            self._active = old
            raise
        self._seal(old, segment)
        return active

    def _seal(self, old: ActiveFile, segment: Segment, high_water: int = 0) -> None:
        """Give a file its sealed name.

        The directory is not synced for that: a cut may leave the file under its old name, and the next opening
        seals it, too. Whoever makes or removes another file syncs the directory.
        """
        try:
            name = old.seal(high_water)
        except OSError as error:
            # All that counts in it is durable; `tidy` will write it anew.
            self._let_go(old)
            segment.suspect = True
            self.fault = f"{segment.name} could not be sealed: {error}"
            return
        with self.lock:
            segment.sealed, segment.verified, segment.size = name, True, segment.end + len(TAIL)
            segment.last = name.last
            self._sealed_bytes = None

    def _seal_last(self, old: ActiveFile) -> None:
        """Seal the file that no other one follows: its name, durable now, says up to where ids were given out."""
        segment = self.segments[-1]
        self._seal(old, segment, self.next_id - 1)
        if segment.sealed:
            try:
                self._fs.sync_directory(self.directory)
            except OSError as error:
                self.fault = f"{segment.name} could not be sealed: {error}"

    def _abandon_active(self, error: Exception) -> None:
        """A file whose write or fsync failed is never written, synced or trusted again."""
        self.fault = f"{self.directory}: {error}"
        if self._active is not None:
            self._let_go(self._active)
            self._active = None
            with self.lock:
                self.segments[-1].suspect = True

    def _let_go(self, active: ActiveFile) -> None:
        with suppress(OSError):  # closing may report what a write already did
            active.abandon()

    def roll(self) -> None:
        """Seal the active file when it has records, so that all of them are in sealed segments.

        Raises:
            DiskFault: The disk refused.
        """
        with self.io:
            if self._active is not None and self._active.count:
                with self.lock:
                    base = self._pending.first_id()
                self._roll(base)

    def _settle(self, found: Recovered) -> None:
        """The end of a recovery; what the disk refuses of it is done at the next opening."""
        renames, found.renames = found.renames, []
        aside, found.aside = found.aside, []
        superseded, found.superseded = found.superseded, []
        for segment, sealed in renames:
            with suppress(OSError):
                self._fs.rename(f"{self.directory}/{segment.name}", f"{self.directory}/{sealed}")
                with self.lock:
                    segment.sealed, segment.verified, segment.size = sealed, True, segment.end + len(TAIL)
        for name in aside:
            try:
                self.set_aside(name)
            except OSError:
                self.outdated.add(name)
        for name in superseded:
            if name != self.segments[-1].name and name not in found.needed:
                try:
                    self._fs.unlink(f"{self.directory}/{name}")
                except OSError:
                    self.outdated.add(name)
        if renames or superseded:
            with suppress(OSError):  # an old file might come back when the one that replaced it goes
                self._fs.sync_directory(self.directory)
