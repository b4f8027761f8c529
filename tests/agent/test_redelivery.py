from hypothesis import given
from hypothesis import strategies as st

from agent.redelivery import CAPACITY, Kept, RedeliveryIndex
from collectors.models import Origin


def origin(packet: int = 1, payload_hash: str = "aa", client: str = "pi") -> Origin:
    return Origin(client=client, packet=packet, payload_hash=payload_hash)


def test_the_second_delivery_is_found_where_the_first_is_kept():
    index = RedeliveryIndex()
    index.remember(origin(), "readings", 17)
    kept = index.find(origin())
    assert kept is not None
    assert (kept.table, kept.last_id) == ("readings", 17)


def test_the_same_packet_id_with_another_content_is_another_message():
    index = RedeliveryIndex()
    index.remember(origin(payload_hash="aa"), "readings", 17)
    assert index.find(origin(payload_hash="bb")) is None
    assert index.find(origin(client="other")) is None
    index.remember(origin(payload_hash="bb"), "readings", 18)
    assert index.find(origin(payload_hash="aa")) is None


def test_a_client_whose_session_is_gone_is_forgotten():
    index = RedeliveryIndex()
    index.remember(origin(client="a"), "readings", 1)
    index.remember(origin(client="b"), "readings", 2)
    index.forget("a")
    assert index.find(origin(client="a")) is None
    assert index.find(origin(client="b")) is not None


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from("abc")), max_size=200), st.integers(1, 20))
def test_what_is_newer_than_so_many_deliveries_is_found_and_nothing_else(deliveries, capacity):
    index = RedeliveryIndex(capacity)
    newest: dict[int, tuple[str, int]] = {}
    for last_id, (packet, payload_hash) in enumerate(deliveries, start=1):
        index.remember(origin(packet, payload_hash), "readings", last_id)
        newest[packet] = (payload_hash, last_id)
    for packet in range(1, 41):
        payload_hash, last_id = newest.get(packet, ("a", 0))
        kept = index.find(origin(packet, payload_hash))
        assert index.find(origin(packet, "d")) is None
        if last_id > len(deliveries) - capacity and last_id:
            assert kept == Kept("readings", last_id)
        else:
            assert kept is None


def test_every_packet_id_in_flight_is_known():
    index = RedeliveryIndex()
    for packet in range(1, CAPACITY + 1):
        index.remember(origin(packet), "readings", packet)
    assert all(index.find(origin(packet)) == Kept("readings", packet) for packet in range(1, CAPACITY + 1))


def test_ids_of_forty_bits_and_several_tables_are_told_apart():
    index = RedeliveryIndex()
    index.remember(origin(1), "readings", 2**40 - 1)
    index.remember(origin(65535), "dead_letters", 5)
    assert index.find(origin(1)) == Kept("readings", 2**40 - 1)
    assert index.find(origin(65535)) == Kept("dead_letters", 5)
