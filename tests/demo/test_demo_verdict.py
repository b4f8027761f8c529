"""The verdict must be able to fail: each flaw is found."""

import sqlite3
from contextlib import closing
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from agent.demo.verdict import judge, received


def reading(seq: int, source: str = "soil", value: float = 1.5) -> tuple[tuple[str, str, int], dict]:
    return ("pi", "store", seq), {
        "source": source,
        "t": float(seq),
        "up": seq * 10,
        "values": {"n": seq, "v": value},
    }


def rows(*readings):
    return [(key, document["source"], document) for key, document in readings]


def test_all_is_well():
    kept = [reading(seq) for seq in (1, 2, 3)]
    verdict = judge(kept, rows(*kept))
    assert verdict.proven
    assert verdict.line() == "accepted 3, delivered 3, lost 0, duplicated 0, out of order 0, altered 0"


def test_the_origin_stays_on_the_device():
    key, document = reading(1)
    assert judge([(key, document | {"origin": ["c", 1, "aa"]})], rows((key, document))).proven


def test_a_time_that_was_corrected_on_the_way_is_no_alteration_and_one_that_was_right_is():
    key, document = reading(1)
    sent = document | {"t": 99.0, "clock": "corrected", "t_error": 0.1}
    assert judge([(key, document | {"clock": "estimated"})], rows((key, sent))).proven
    assert judge([(key, document)], rows((key, sent))).altered == 1
    assert judge([(key, document | {"clock": "estimated"})], rows((key, sent | {"up": 11}))).altered == 1


def test_nothing_proves_nothing():
    assert not judge([], []).proven


def test_a_lost_reading_is_found():
    kept = [reading(seq) for seq in (1, 2, 3)]
    assert judge(kept, rows(kept[0], kept[2])).lost == 1


def test_a_second_copy_is_found_even_under_another_key():
    kept = [reading(1), reading(2)]
    (_, document) = kept[1]
    assert judge(kept, rows(*kept, kept[1])).duplicated == 1
    assert judge(kept, rows(*kept, (("pi", "store", 9), document))).duplicated == 1
    twice = [*kept, (("pi", "store", 3), document)]
    assert judge(twice, rows(*twice)).duplicated == 1


def test_disorder_is_what_neither_live_readings_nor_the_backlog_go_on_with():
    kept = [reading(1), reading(2), reading(3), reading(4, source="hall")]
    assert judge(kept, rows(kept[2], kept[1], kept[0], kept[3])).out_of_order == 1
    assert judge(kept, rows(kept[2], kept[0], kept[3], kept[1])).out_of_order == 0, "live first"
    assert judge(kept, rows(kept[3], kept[0], kept[2], kept[1])).out_of_order == 0


def test_a_changed_value_is_found():
    assert judge([reading(1)], rows(reading(1, value=1.6))).altered == 1


@given(st.lists(st.integers(1, 20), unique=True, min_size=1), st.data())
def test_any_flaw_disproves(seqs, data):
    kept = [reading(seq) for seq in sorted(seqs)]
    arrived = data.draw(st.one_of(st.permutations(kept), st.lists(st.sampled_from(kept), max_size=40)))
    numbers = [seq for (_, _, seq), _ in arrived]
    in_two_lanes = not any(a > b > c for a, b, c in combinations(numbers, 3))
    assert judge(kept, rows(*arrived)).proven == (sorted(numbers) == sorted(seqs) and in_two_lanes)


def test_a_receivers_database_is_read_in_order_of_arrival(tmp_path):
    database = tmp_path / "cloud.sqlite"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "CREATE TABLE readings (arrival INTEGER PRIMARY KEY, device_id, store_id, seq, source, document)"
        )
        for seq in (2, 1):
            connection.execute(
                "INSERT INTO readings (device_id, store_id, seq, source, document) VALUES (?, ?, ?, ?, ?)",
                ("pi", "store", seq, "soil", '{"source":"soil"}'),
            )
    assert [key[2] for key, _, _ in received(database)] == [2, 1]
