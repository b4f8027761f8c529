r"""The store-and-forward buffer: a TinyDB made for flash.

Stock TinyDB rewrites its whole file with every insert. This one keeps TinyDB's interface and its
file format, and appends:

    <root>/readings/a.<base>.json                                 the active segment
    <root>/readings/s.<base>.<rev>.<count>.<crc>.<last>.json      sealed ones, 4 MiB each
    <root>/.state/j.<generation>.json                             all small tables, one journal
    <root>/.summaries/readings.lines                              time ranges and sources, may be lost
    <root>/.quarantine/                                           damaged files, for people to look at
    <root>/.format.<major>.<minor>                                the version of all this
    <root>/.lock                                                  one process at a time

Each file is a TinyDB database (and so JSON) after every commit; `buffer.layout` shows the bytes.

Rules, asserted in code where they can be:

1. Committed bytes never change.
2. An id reported as durable is on disk: fdatasync has returned, or the write that syncs as well. Only
   durable records are given out.
3. Ids strictly increase and are never reused: an opening after a crash skips past all that could
   have been handed out, and says so in the ledger ("never issued").
4. A directory is never empty: its last file carries the highest id.
5. A file whose write or sync failed is never written, synced or trusted again: what it was to hold
   is still in memory, and goes to a new file.
6. What is stored about a consumer is never ahead of what it acknowledged.
7. A change of several segments is decided durably before it is carried out.
8. Memory does not grow with the backlog, and what waits for the disk is bounded.

What a fault does:

| fault | what happens |
| --- | --- |
| kill -9 | what was not committed yet (the window) is gone; nothing else |
| power cut | likewise; a torn end is cut off, after its last good frame |
| a damaged byte | costs the frame it is in, at most; the file is written anew without it, the damaged one set aside, the loss entered in the ledger |
| a file cut off at any length, or overwritten from some place on | what is left of it is kept; what it had beyond is entered in the ledger, exactly for a sealed file, as "file unreadable: at most" for the active one |
| disk full, EIO, read-only | `fault` says so; records wait in bounded memory, `append` raises `BufferFull` after that; it goes on by itself |
| its directory, or a file in it, removed while it runs | noticed at the next commit, or within 10 s: made anew, what was in it and not delivered entered in the ledger; no record is reported durable in a file that has no name any more |
| files of the readings gone while it was closed | what was in them and not delivered is entered in the ledger; where the last ones went, ids go on beyond all that is known to have been given out, under a new store id |
| its directory moved, or its disk unmounted or covered | noticed within 10 s, until when commits go on into the file that is open; then records wait in memory, and no file is made in its place |
| a file whose name or content is not the buffer's | set aside in the quarantine; a higher revision that is no such thing supersedes nothing |
| quota or reserve reached | delivered segments go first; then the policy of the lane decides, and the ledger says what went |
| a disk without a free byte | as with the quota where there is a limit; what somebody else takes at once is not made free again |
| a clock that jumps | no id, no order and nothing undelivered depends on it |
| card moved or cloned | records keep their identity, new ones get a new store id |
| a second process | `BufferLocked` |
| a store that a newer version wrote | read, unless its major version is higher: then `UnknownFormat`, and nothing is touched |

Modules, from the bytes up: `layout`, `naming`, `ranges`, `summary`, `loss`, `salvage` (pure); `version`; `filesystem`
(the seam); `segment`, `blocks`, `writer`, `recovery`, `quarantine` (files); `segment_files`, `stored`, `streaming`, `pending`,
`appended_files`, `log` (one table); `journal`, `ledger`, `identity` (small tables); `lanes`, `lane_reading`,
`lane_queries`, `progress`, `consumer`, `consumers` (who takes records out); `edit`, `changing`, `thinning`, `limits`,
`ages`, `retention` (what changes and goes); `capacity`, `wear` (how long it lasts); `committer` (the thread);
`summaries`, `selection` (queries); `place`, `logs`, `missing` (the directory, its tables, and files that are gone); `table`, `database`
(TinyDB's face); `waiting`, `aio`, `backend` (the asyncio face); `overlay`, `inspection`, `verification`,
`repair`, `export`, `copying` (tools for a buffer that somebody else has open).
"""

from buffer.aio import AsyncConsumer, StateTable
from buffer.backend import TinyDBBuffer
from buffer.capacity import Capacity
from buffer.consumer import Batch, Consumer, Record
from buffer.copying import clear_abandoned_copies
from buffer.database import BufferDB
from buffer.errors import (
    BufferClosed,
    BufferFull,
    BufferLocked,
    DiskFault,
    IdsExhausted,
    InvalidDocument,
    NoBuffer,
    StoreError,
    UnknownBatch,
    UnknownFormat,
    UnknownRecord,
)
from buffer.identity import Identity
from buffer.ledger import Ledger
from buffer.options import BufferOptions
from buffer.wear import Wear, wear_of

__all__ = [
    "AsyncConsumer",
    "Batch",
    "BufferClosed",
    "BufferDB",
    "BufferFull",
    "BufferLocked",
    "BufferOptions",
    "Capacity",
    "Consumer",
    "DiskFault",
    "Identity",
    "IdsExhausted",
    "InvalidDocument",
    "Ledger",
    "NoBuffer",
    "Record",
    "StateTable",
    "StoreError",
    "TinyDBBuffer",
    "UnknownBatch",
    "UnknownFormat",
    "UnknownRecord",
    "Wear",
    "clear_abandoned_copies",
    "wear_of",
]
