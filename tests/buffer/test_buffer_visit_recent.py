"""The newest records, one by one, however many segments they are in."""

from hypothesis import given, settings
from hypothesis import strategies as st

from buffer import BufferDB


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(1, 400), max_size=6),
    st.integers(0, 1500),
    st.sets(st.integers(1, 1500), max_size=20),
)
def test_visiting_gives_what_a_list_of_the_newest_would(tmp_path_factory, groups, n, deleted):
    path = tmp_path_factory.mktemp("buffer")
    with BufferDB(path, segment_bytes=8192, threaded=False) as buffer:
        number = 0
        for group in groups:
            buffer.insert_json([b'{"n": %d}' % (number + place) for place in range(group)])
            number += group
            buffer.flush()
        for record_id in deleted:
            if buffer.table("readings").contains(doc_id=record_id):
                buffer.delete(record_id)
        seen: list[tuple[int, dict]] = []
        log = buffer.log("readings")
        log.visit_recent(n, lambda record_id, document: seen.append((record_id, document)))
        more = len(seen) - min(n, log.total())
        assert 0 <= more <= len(deleted)
        assert seen == log.recent(len(seen)) if seen else not n or not log.total()
