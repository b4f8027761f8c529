"""What `outstation gaps` asks of PostgreSQL: what has come, and what has not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agent.receiver.threaded_store import coverage_of, fill_parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import psycopg

    from agent.receiver.store import Coverage

_COVERED = """
SELECT device_id, store_id, min(seq), max(seq), count(*) FROM outstation.readings
WHERE %(device)s::text IS NULL OR device_id = %(device)s GROUP BY device_id, store_id
"""
_COUNTS = """
SELECT (
    SELECT count(*) FROM outstation.readings AS r
    WHERE r.device_id = part.device_id AND r.store_id = part.store_id AND r.seq BETWEEN part.first AND part.last
) FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::bigint[]) WITH ORDINALITY AS part (device_id, store_id, first, last, n)
ORDER BY n
"""
_HOLES = """
SELECT before + 1, seq - 1 FROM (
    SELECT seq, lag(seq, 1, %(first)s::bigint - 1) OVER (ORDER BY seq) AS before FROM (
        SELECT seq FROM outstation.readings
        WHERE device_id = %(device)s AND store_id = %(store)s AND seq BETWEEN %(first)s AND %(last)s
        UNION ALL SELECT %(last)s::bigint + 1
    ) AS given
) AS pairs WHERE before < seq - 1 ORDER BY seq LIMIT %(most)s
"""
_LOSSES = """
SELECT device_id, store_id, first, last, count, why FROM outstation.losses
WHERE %(device)s::text IS NULL OR device_id = %(device)s ORDER BY first, last
"""
_EXTENTS = """
SELECT device_id, store_id, upstream, begins, since, absent, settled, newest, routed, aside,
extract(epoch from told_at) FROM outstation.extents WHERE %(device)s::text IS NULL OR device_id = %(device)s ORDER BY upstream
"""
_COUNTED_AT_ONCE = 5_000


def coverage(connection: psycopg.Connection[tuple[Any, ...]], device_id: str | None) -> list[Coverage]:
    """What came of each buffer, of one device or of all: in a transaction that nothing was done in yet."""
    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    covered, losses, extents = (
        connection.execute(query, {"device": device_id}).fetchall() for query in (_COVERED, _LOSSES, _EXTENTS)
    )
    found = coverage_of(covered, losses, extents)
    fill_parts(found, lambda parts: _counts(connection, parts))
    return found


def holes(
    connection: psycopg.Connection[tuple[Any, ...]],
    device_id: str,
    store_id: str,
    within: tuple[int, int],
    most: int,
) -> list[tuple[int, int]]:
    """The first and last number of each run in a range that has not come; at most so many."""
    first, last = within
    asked = {"device": device_id, "store": store_id, "first": first, "last": last, "most": most}
    return connection.execute(_HOLES, asked).fetchall()


def _counts(
    connection: psycopg.Connection[tuple[Any, ...]], parts: Sequence[tuple[str, str, int, int]]
) -> Iterator[int]:
    for start in range(0, len(parts), _COUNTED_AT_ONCE):
        columns = [list(column) for column in zip(*parts[start : start + _COUNTED_AT_ONCE], strict=True)]
        yield from (int(count) for (count,) in connection.execute(_COUNTS, columns))
