"""Queries read only the segments they must, and find what reading them all would."""

import asyncio
import collections
import errno
import random
import threading
import tracemalloc
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import BufferClosed, BufferDB, DiskFault, TinyDBBuffer
from buffer.summary import UNKNOWN, Pruning, Summarizer, Summary, from_line, to_line
from collectors.criteria import compile_filters, select
from collectors.models import QueryCriteria
from tests.rigs.counting_disk import CountingDisk
from tests.rigs.faulty_disk import FaultyDisk, File

times = (
    st.integers(0, 4)
    | st.integers(0, 4).map(float)
    | st.sampled_from([True, None, "12", 10**30, -(2.0**60), [1]])
)
sources = st.sampled_from(["soil", "hall", "", "ü"]) | st.sampled_from([None, 5, ["soil"]])
documents = st.fixed_dictionaries(
    {"n": st.integers(0, 3)},
    optional={"t": times, "source": sources, "location_id": st.sampled_from(["readings/3", "x", 7])},
)
operands = (
    st.integers(-1, 5) | st.floats(-1, 5) | st.sampled_from([True, "12", None, float("inf"), float("nan")])
)
comparisons = st.dictionaries(
    st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq", "$ne"]), operands, min_size=1, max_size=2
)
filters = st.fixed_dictionaries(
    {},
    optional={
        "t": operands | comparisons | st.builds(lambda many: {"$in": many}, st.lists(operands, max_size=3)),
        "source": sources | st.builds(lambda many: {"$in": many}, st.lists(sources, max_size=2)),
        "location_id": st.integers(1, 40).map("readings/{}".format) | st.sampled_from(["x", "readings/²", 7]),
        "n": st.integers(0, 3) | st.just({"$exists": True}),
    },
)
counts = st.none() | st.integers(0, 12)
criteria = st.builds(
    QueryCriteria,
    filters=filters,
    sort_by=st.sampled_from([None, "t", "-t", "n", "-n", "source"]),
    limit=counts,
    offset=counts,
)


def filled(path, groups, **options):
    """A buffer with a segment for each group of documents, and the last group waiting for its commit."""
    db = BufferDB(path, threaded=False, segment_bytes=4096, **options)
    for group in groups:
        db.flush()
        db.log("readings").roll()
        db.insert_multiple(group)
    return db


# -- what a summary claims


@given(st.lists(documents, min_size=1, max_size=6), filters)
def test_what_is_left_out_could_not_have_matched(group, wanted):
    summarizer = Summarizer()
    summarizer.add(group[:2])
    summarizer.add(group[2:])
    conditions = compile_filters(wanted)
    pruning = Pruning(conditions, location_prefix="readings/")
    if pruning.excludes(summarizer.summary(), 10, 10 + len(group)):
        for at, document in enumerate(group):
            seen = {"location_id": f"readings/{10 + at}", **document}
            assert not all(condition.holds(seen) for condition in conditions)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=2),
    st.sampled_from(["$gt", "$gte", "$lt", "$lte", "$eq"]),
    st.integers(-1, 5),
)
def test_a_range_of_times_is_left_out_exactly_when_no_time_in_it_matches(range_of_times, operator, operand):
    summarizer = Summarizer()
    summarizer.add({"t": t} for t in range(min(range_of_times), max(range_of_times) + 1))
    (condition,) = compile_filters({"t": {operator: operand}})
    excluded = Pruning([condition], location_prefix="").excludes(summarizer.summary(), 1, 9)
    matching = [t for t in range(min(range_of_times), max(range_of_times) + 1) if condition.holds({"t": t})]
    assert excluded is not bool(matching)


@given(st.lists(documents, max_size=6))
def test_a_summary_survives_its_line(group):
    summarizer = Summarizer()
    summarizer.add(group)
    line = to_line("s.1", summarizer.summary())
    assert from_line(line) == ("s.1", summarizer.summary())
    for at in range(len(line)):
        assert from_line(line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]) is None
    assert from_line(b"") is from_line(line[:-1]) is None


def test_a_line_of_another_version_says_nothing():
    line = to_line("s.1", UNKNOWN)
    assert from_line(line) == ("s.1", UNKNOWN)
    newer = line[9:].replace(b'"v":1', b'"v":2')
    assert from_line(b"%08x %b" % (crc32(newer), newer)) is None


def test_a_segment_of_many_sources_is_read_for_each():
    summarizer = Summarizer()
    summarizer.add({"source": f"s{at}"} for at in range(1000))
    assert summarizer.summary().sources is None
    assert not Pruning(compile_filters({"source": "x"}), location_prefix="").excludes(
        summarizer.summary(), 1, 9
    )


def test_what_compares_with_nothing_is_no_time():
    summarizer = Summarizer()
    summarizer.add([{"t": float("nan")}, {"t": 5}])
    assert summarizer.summary() == Summary(5, 5, timed=False, sources=frozenset(), located=False)


# -- what a query finds


@settings(max_examples=150, deadline=None)
@given(
    groups=st.lists(st.lists(documents, min_size=1, max_size=6), min_size=1, max_size=6),
    asked=st.lists(criteria, min_size=1, max_size=4),
    deleted=st.sets(st.integers(1, 20), max_size=4),
    known=st.sampled_from(["nothing", "all", "sidecar", "by queries"]),
)
def test_a_query_finds_what_reading_everything_would(groups, asked, deleted, known):
    disk = FaultyDisk(random.Random(0))
    db = filled("/store", groups, fs=disk)
    for record_id in deleted:
        if db.contains(doc_id=record_id):
            db.delete(record_id)
    if known in {"all", "sidecar"}:
        for _ in groups:
            db.maintain()
    if known == "sidecar":
        db.close()
        db = BufferDB("/store", fs=disk, threaded=False)
    if known == "by queries":
        db.query(asked[0])
    everything = [(document.doc_id, dict(document)) for document in db]
    for each in asked:
        expected = select(everything, each, location="readings/{}".format)
        assert db.query(each) == expected


@pytest.mark.parametrize("sort_by", ["t", "-t"])
@pytest.mark.parametrize(
    "group", [[{"t": 5}, {"t": 7}, {"t": 7}, {"t": 5}], [{"t": 0}, {"t": True}], [{}, {"t": 1}]]
)
def test_of_those_as_good_the_lowest_ids_come_first(sort_by, group):
    groups = [group, group[1:], *[group] * 3]
    db = filled("/store", groups, fs=FaultyDisk(random.Random(0)))
    for _ in groups:
        db.maintain()
    everything = [(document.doc_id, dict(document)) for document in db]
    for limit in range(17):
        asked = QueryCriteria(sort_by=sort_by, limit=limit)
        assert db.query(asked) == select(everything, asked)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 3), st.none() | st.integers(0, 21), st.none() | st.integers(0, 21))
def test_readings_of_a_source_and_a_time(source, since_s, until_s):
    rng = random.Random(source)
    groups = [
        [{"source": f"s{rng.randint(0, 3)}", "t": at * 3 + rng.random() * 5} for _ in range(5)]
        for at in range(6)
    ]
    db = filled("/store", groups, fs=FaultyDisk(rng))
    found = list(db.readings(source=f"s{source}", since_s=since_s, until_s=until_s))
    assert [(record.seq, record.document) for record in found] == [
        (document.doc_id, document)
        for document in db
        if document["source"] == f"s{source}"
        and (since_s is None or document["t"] >= since_s)
        and (until_s is None or document["t"] < until_s)
    ]


# -- what a query reads


@pytest.fixture
def disk():
    return CountingDisk()


@pytest.fixture
def db(disk, tmp_path):
    """Ten times 5 readings, a second apart, sources in turn: nine sealed segments, and the last 5 wait."""
    groups = [[{"source": f"s{at % 3}", "t": at * 5 + n} for n in range(5)] for at in range(10)]
    with filled(tmp_path, groups, fs=disk) as opened:
        for _ in range(8):
            opened.maintain()
        disk.forget()
        yield opened


CASES = [
    ({"filters": {"t": {"$gte": 12, "$lt": 16}}}, {11, 16}),
    ({"filters": {"t": 7}}, {6}),
    ({"filters": {"t": {"$in": [7, 30]}}}, {6, 31}),
    ({"filters": {"t": {"$gt": 34}}}, {36, 41}),
    ({"filters": {"t": {"$lte": 0}}}, {1}),
    ({"filters": {"source": "s1"}}, {6, 21, 36}),
    ({"filters": {"source": {"$in": ["s1", "s2"]}, "t": {"$lt": 15}}}, {6, 11}),
    ({"filters": {"source": "nowhere"}}, set()),
    ({"filters": {"location_id": "readings/18"}}, {16}),
    ({"filters": {"location_id": "elsewhere/18"}}, set()),
    ({"sort_by": "-t", "limit": 3}, set()),  # it waits in memory
    ({"sort_by": "-t", "limit": 3, "offset": 5}, {41}),
    ({"sort_by": "-t", "limit": 3, "offset": 11}, {41, 36}),
    ({"sort_by": "t", "limit": 6}, {1, 6}),
    ({"sort_by": "-t", "limit": 2, "filters": {"source": "s1"}}, {36}),
    ({"limit": 3}, {1}),
    ({"limit": 0, "sort_by": "t"}, set()),
]


@pytest.mark.parametrize(("asked", "bases"), CASES)
def test_only_segments_that_may_have_it_are_read(db, disk, asked, bases):
    found = db.query(QueryCriteria(**asked))
    assert disk.segments_read == bases
    everything = [(document.doc_id, dict(document)) for document in db]
    assert found == select(everything, QueryCriteria(**asked), location="readings/{}".format)


def test_readings_read_only_segments_that_may_have_them(db, disk):
    assert [record.seq for record in db.readings(source="s0", since_s=17)] == [
        *range(18, 21),
        *range(31, 36),
        *range(46, 51),
    ]
    assert disk.segments_read == {16, 31}


def test_a_second_process_reads_no_segment_again(db, disk, tmp_path):
    db.close()
    with BufferDB(tmp_path, fs=disk, threaded=False) as again:
        assert "readings.lines" not in disk.opened  # opening costs nothing more
        disk.forget()
        assert len(again.query(QueryCriteria(filters={"t": {"$lt": 5}}))) == 5
        assert disk.segments_read == {1, 46}  # the last one was sealed by the closing
        assert disk.opened["readings.lines"] == 1
        disk.forget()
        again.query(QueryCriteria(filters={"t": {"$lt": 0}}))
        assert disk.segments_read == set()


def test_a_segment_that_changed_is_summed_up_anew(db, disk):
    db.update({"t": 1000}, doc_ids=[3])
    assert [each for each, _ in db.query(QueryCriteria(filters={"t": 1000}))] == [3]
    disk.forget()
    assert [each for each, _ in db.query(QueryCriteria(filters={"t": 1000}))] == [3]
    assert disk.segments_read == {1}


def test_what_a_query_read_as_a_whole_is_known(disk, tmp_path):
    with filled(tmp_path, [[{"t": at}] for at in range(6)], fs=disk) as db:
        assert len(list(db.readings(since_s=0))) == 6
        disk.forget()
        assert len(list(db.readings(since_s=4))) == 2
        assert disk.segments_read == {5}


# -- the sidecar may be lost


def sidecar(path):
    return Path(path) / ".summaries" / "readings.lines"


def test_the_sidecar_is_small_and_names_each_segment_once(db, tmp_path):
    lines = sidecar(tmp_path).read_bytes().split()
    assert len(lines) == 2 * 9
    assert sidecar(tmp_path).stat().st_size < 9 * 150
    for _ in range(3):
        db.maintain()
    assert sidecar(tmp_path).read_bytes().split() == lines


@pytest.mark.parametrize("harm", ["lost", "emptied", "zeros", "cut", "foreign"])
def test_a_harmed_sidecar_costs_a_reading_and_is_mended(db, disk, tmp_path, harm):
    db.close()
    path = sidecar(tmp_path)
    whole = path.read_bytes()
    match harm:
        case "lost":
            path.unlink()
        case "emptied":
            path.write_bytes(b"")
        case "zeros":
            path.write_bytes(bytes(len(whole)))
        case "cut":
            path.write_bytes(whole[: len(whole) // 2])
        case "foreign":
            path.write_bytes(b'\xff\x00{"segment":1}\n[]\nnull\n')
    for _ in range(2):
        with BufferDB(tmp_path, fs=disk, threaded=False) as again:
            assert len(again.query(QueryCriteria(filters={"t": {"$gte": 0}}))) == 50
            again.maintain()
    with BufferDB(tmp_path, fs=disk, threaded=False) as again:
        disk.forget()
        assert again.query(QueryCriteria(filters={"t": {"$lt": 0}})) == []
        assert disk.segments_read == set()


def test_lines_of_segments_that_are_gone_are_dropped():
    disk = FaultyDisk(random.Random(0))
    db = filled("/store", [[{"t": at}] for at in range(3)], fs=disk)
    most = 0
    disk.files["/store/.summaries/t.0123.lines"] = File(bytearray(b"left by a crash"))
    for at in range(180):
        db.update({"t": at}, doc_ids=[1])
        db.maintain()
        most = max(most, disk.files["/store/.summaries/readings.lines"].cache.count(b'"v":'))
    assert 64 < most < 90
    assert [name for name in disk.files if ".summaries" in name] == ["/store/.summaries/readings.lines"]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_a_disk_that_refuses_it_is_no_fault(error):
    disk = FaultyDisk(random.Random(0))
    db = filled("/store", [[{"t": at}] for at in range(5)], fs=disk)
    db.flush()
    disk.fail_when = lambda what: error if what in {"create", "write", "rename"} else None
    for _ in range(3):
        db.maintain()
    assert db.fault is None
    assert not [name for name in disk.files if name.endswith("/readings.lines")]
    disk.fail_when = lambda _: None
    db.maintain()
    assert [name for name in disk.files if name.endswith("/readings.lines")]


def test_a_power_cut_at_any_step_costs_no_answer():
    for step in range(1, 40):
        rng = random.Random(step)
        disk = FaultyDisk(rng)
        db = filled("/store", [[{"t": at}] for at in range(8)], fs=disk)
        db.flush()
        disk.cut_at = disk.operations + rng.randint(1, 6)
        for _ in range(4):
            try:
                db.maintain()
            except BaseException as cut:  # noqa: BLE001 (the power cut is one)
                assert type(cut).__name__ == "PowerCut"  # noqa: PT017 (it may not come)
                break
        disk.power_cut()
        db = BufferDB("/store", fs=disk, threaded=False)
        for since in range(9):
            assert len(list(db.readings(since_s=since))) == 8 - since


# -- maintenance keeps out of the way


def test_maintenance_stops_when_somebody_waits_and_goes_on_later(disk, tmp_path):
    pad = "x" * 1000
    with BufferDB(tmp_path, fs=disk, threaded=False, segment_bytes=1 << 20) as db:
        for at in range(1200):
            db.insert({"t": at, "pad": pad})
            if at % 100 == 0:
                db.flush()
        db.flush()
        db.log("readings").roll()
        disk.forget()
        turns = 0
        first = db.log("readings").segments[0]
        newest = db.log("readings").segments[-2]
        while newest.summary is None:
            db._summaries.maintain(lambda: True)
            turns += 1
        assert turns > 1
        assert first.summary is None or first is newest
        assert max(disk.read_bytes.values()) < 1.3 * newest.end
        while first.summary is None:
            db._summaries.maintain(lambda: False)
        assert (first.summary.low, newest.summary.high) == (0, 1199)


def test_the_committer_says_when_it_is_busy(tmp_path):
    with BufferDB(tmp_path, window_s=3600) as db:
        assert not db._committer.busy()
        db.insert({})
        assert not db._committer.busy()
    assert db._committer.busy()


def test_a_damaged_segment_is_found_by_maintenance(db, tmp_path):
    db.close()
    (file,) = tmp_path.glob("readings/s.0000000000000001.*")
    data = bytearray(file.read_bytes())
    data[150] ^= 1
    file.write_bytes(data)
    sidecar(tmp_path).unlink()
    with BufferDB(tmp_path, threaded=False) as again:
        for _ in range(8):
            again.maintain()
        again.flush()
        assert again.ledger.dropped == 5
        assert len(again) == 45
        assert all(each.summary for each in again.log("readings").segments if each.sealed)


def test_a_segment_with_what_is_no_json_is_written_anew_by_maintenance(tmp_path):
    with filled(tmp_path, [[{"t": 1}], [{"t": 2}]]) as db:
        db.flush()
        db.insert_json([b'{"t":3}', b"{wrong}", b"[3]"], vouched=True)
        db.flush()
        db.log("readings").roll()
        for _ in range(4):
            db.maintain()
        db.flush()
        assert [(entry["first"], entry["last"], entry["count"]) for _, entry in db.ledger.items()] == [
            (4, 5, 2)
        ]
        assert db.log("readings").segments[1].summary == Summary(2, 3, True, frozenset(), False)  # noqa: FBT003
        assert [record.seq for record in db.readings(since_s=3)] == [3]


def test_a_segment_that_cannot_be_written_anew_is_read_whatever_is_asked():
    disk = FaultyDisk(random.Random(0))
    db = filled("/store", [[{"t": 1}], [{"t": 2}], [{"t": 3}]], fs=disk)
    db.flush()
    db.close()
    (name,) = (name for name in disk.files if name.startswith("/store/readings/s.0000000000000001."))
    disk.files[name].cache[150] ^= 1
    db = BufferDB("/store", fs=disk, threaded=False)
    disk.fail_when = lambda what: errno.EROFS if what == "create" else None
    with pytest.raises(DiskFault):
        collections.deque((db.maintain() for _ in range(3)), maxlen=0)
    assert db.log("readings").segments[0].summary == UNKNOWN
    for _ in range(2):
        db.maintain()
    disk.fail_when = lambda _: None
    assert [record.seq for record in db.readings(since_s=1)] == [2, 3]
    db.maintain()
    assert not any(b"Infinity" in file.cache for name, file in disk.files.items() if ".summaries" in name)


# -- on an event loop


@pytest.fixture
async def backend(tmp_path):
    opened = TinyDBBuffer("main", tmp_path, segment_bytes=4096, window_s=60)
    await opened.connect()
    for at in range(40):
        opened.append(
            [b'{"source":"s%d","t":%d,"pad":"%s"}' % (at % 2, at * 50 + n, b"x" * 60) for n in range(50)]
        )
        await opened.flush()
    yield opened
    await opened.disconnect()


async def test_readings_come_one_by_one(backend):
    seen = [record.document["t"] async for record in backend.readings(source="s1", since_s=100, until_s=1900)]
    assert seen == [t for t in range(100, 1900) if t // 50 % 2]
    async for record in backend.readings():
        assert record.seq == 1
        break


async def test_who_delivers_does_not_wait_for_a_query(backend):
    consumer = backend.consumer("cloud")
    held = threading.Event()
    await backend.query(QueryCriteria(limit=1))
    backend._querying.submit(held.wait)
    querying = asyncio.create_task(backend.query(QueryCriteria()))
    assert len(await consumer.take(10)) == 10
    assert len(await backend.recent(5)) == 5
    assert not querying.done()
    held.set()
    assert len(await querying) == 2000


@pytest.mark.parametrize("end", ["cancelled", "closed"])
async def test_a_query_that_nobody_waits_for_ends(backend, end):
    reached, held = threading.Event(), threading.Event()
    db = backend.database
    original, calls = db.log("readings").stream_stored, []

    def slow(low, high, *, skip):
        def held_up(segment):
            calls.append(segment)
            reached.set()
            held.wait()
            return skip(segment)

        return original(low, high, skip=held_up)

    db.log("readings").stream_stored = slow
    querying = asyncio.create_task(backend.query(QueryCriteria()))
    await asyncio.to_thread(reached.wait)
    if end == "cancelled":
        querying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await querying
        held.set()
        db.log("readings").stream_stored = original
        assert len(await backend.query(QueryCriteria(limit=3))) == 3
    else:
        closing = asyncio.create_task(backend.disconnect())
        await asyncio.sleep(0)
        held.set()
        with pytest.raises(BufferClosed, match="during a query"):
            await querying
        await closing
    assert len(calls) == 1


async def test_nothing_is_asked_of_what_is_not_connected(tmp_path):
    backend = TinyDBBuffer("main", tmp_path)
    with pytest.raises(BufferClosed):
        await backend.query(QueryCriteria())
    with pytest.raises(BufferClosed):
        async for _ in backend.readings():
            pass


def test_nothing_is_asked_of_what_is_closed(tmp_path):
    with BufferDB(tmp_path, threaded=False) as db:
        pass
    with pytest.raises(BufferClosed):
        db.query(QueryCriteria())
    with pytest.raises(BufferClosed):
        db.readings()


def test_no_more_is_held_than_was_asked_for(tmp_path):
    with BufferDB(tmp_path, threaded=False, segment_bytes=1 << 16) as db:
        for at in range(40):
            db.insert_json(
                [b'{"source":"s","t":%d,"pad":"%s"}' % (-at * 100 - n, b"x" * 200) for n in range(100)]
            )
            db.flush()
        asked = [
            QueryCriteria(sort_by="t", limit=10),
            QueryCriteria(sort_by="-t", limit=10, offset=10),
            QueryCriteria(sort_by="pad", limit=10),
            QueryCriteria(filters={"t": {"$lt": 0}}, limit=10, offset=100),
        ]
        tracemalloc.start()
        for each in asked:
            tracemalloc.reset_peak()
            before, _ = tracemalloc.get_traced_memory()
            assert len(db.query(each)) == 10
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 1 << 20, each  # 4,000 documents take 2.5 MB
        tracemalloc.stop()
