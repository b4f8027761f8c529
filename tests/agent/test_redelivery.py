from hypothesis import given
from hypothesis import strategies as st

from agent.redelivery import CAPACITY, Kept, RedeliveryIndex
from collectors.models import Origin


def origin(packet: int = 1, payload_hash: str = "aa", client: str = "pi") -> Origin:
    return Origin(client=client, packet=packet, payload_hash=payload_hash)


def keep(index, origin, table, last_id, *, again=True):
    index.deliver(origin, again=again)
    index.remember(origin, table, last_id)


def test_the_second_delivery_is_found_where_the_first_is_kept():
    index = RedeliveryIndex()
    keep(index, origin(), "readings", 17)
    kept = index.find(origin())
    assert kept is not None
    assert (kept.table, kept.last_id) == ("readings", 17)


def test_the_same_packet_id_with_another_content_is_another_message():
    index = RedeliveryIndex()
    keep(index, origin(payload_hash="aa"), "readings", 17)
    assert index.find(origin(payload_hash="bb")) is None
    assert index.find(origin(client="other")) is None
    keep(index, origin(payload_hash="bb"), "readings", 18)
    assert index.find(origin(payload_hash="aa")) is None


def test_a_client_whose_session_is_gone_is_forgotten():
    index = RedeliveryIndex()
    keep(index, origin(client="a"), "readings", 1)
    keep(index, origin(client="b"), "readings", 2)
    index.forget("a")
    assert index.find(origin(client="a")) is None
    assert index.find(origin(client="b")) is not None


@given(st.lists(st.tuples(st.integers(1, 40), st.sampled_from("abc")), max_size=200), st.integers(1, 20))
def test_what_is_newer_than_so_many_deliveries_is_found_and_nothing_else(deliveries, capacity):
    index = RedeliveryIndex(capacity)
    newest: dict[int, tuple[str, int]] = {}
    for last_id, (packet, payload_hash) in enumerate(deliveries, start=1):
        keep(index, origin(packet, payload_hash), "readings", last_id)
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
        keep(index, origin(packet), "readings", packet)
    assert all(index.find(origin(packet)) == Kept("readings", packet) for packet in range(1, CAPACITY + 1))


def test_ids_of_forty_bits_and_several_tables_are_told_apart():
    index = RedeliveryIndex()
    keep(index, origin(1), "readings", 2**40 - 1)
    keep(index, origin(65535), "dead_letters", 5)
    assert index.find(origin(1)) == Kept("readings", 2**40 - 1)
    assert index.find(origin(65535)) == Kept("dead_letters", 5)


def test_a_broker_that_uses_identifiers_again_at_once_is_noticed():
    """Its next message may have the identifier and the content of one that was acknowledged, and be cut off."""
    index = RedeliveryIndex()
    keep(index, origin(), "readings", 1, again=False)
    assert index.find(origin()) is not None
    keep(index, origin(), "readings", 2, again=False)
    assert index.find(origin()) is None
    keep(index, origin(client="other"), "readings", 3, again=False)
    assert index.find(origin(client="other")) is not None
    index.forget("pi")  # a new session changes no broker
    keep(index, origin(), "readings", 4, again=False)
    assert index.find(origin()) is None


def test_a_broker_that_counts_identifiers_up_is_trusted():
    index = RedeliveryIndex()
    for number in range(2 * 65535):
        keep(index, origin(1 + number % 65535), "readings", number + 1, again=False)
    assert index.find(origin(65535)) == Kept("readings", 2 * 65535)


def test_what_the_buffer_held_says_nothing_about_the_broker():
    """It has gaps: other tables, and what a rule dropped."""
    index = RedeliveryIndex()
    index.restore(origin(1), "readings", 1)
    index.restore(origin(2), "readings", 2)
    keep(index, origin(1), "readings", 3, again=False)
    assert index.find(origin(2)) == Kept("readings", 2)
    assert index.find(origin(1)) == Kept("readings", 3)


def test_what_a_rule_dropped_ends_what_used_its_identifier():
    index = RedeliveryIndex()
    keep(index, origin(), "readings", 1)
    index.deliver(origin(), again=True)
    assert index.find(origin()) is None


@given(st.lists(st.sampled_from(["send", "deliver", "acknowledge", "cut"]), max_size=150), st.integers(1, 5))
def test_no_message_of_a_broker_with_few_identifiers_is_taken_for_another(events, window):
    """All messages are equal, and the broker gives the lowest identifier that is free."""
    index = RedeliveryIndex()
    for last_id in (1, 2):  # it has been noticed
        keep(index, origin(), "readings", last_id, again=False)
    sent, flight, wire, pubacks, stored = 0, {}, [], [], set()
    for event in [*events, "cut", *["deliver", "acknowledge"] * window]:
        if event == "send" and len(flight) < window:
            sent += 1
            packet = min(set(range(1, window + 1)) - flight.keys())
            flight[packet] = sent
            wire.append((packet, sent, False))
        elif event == "deliver" and wire:
            packet, number, again = wire.pop(0)
            if again and index.find(origin(packet)) is not None:
                assert number in stored
            else:
                keep(index, origin(packet), "readings", number, again=again)
                stored.add(number)
            pubacks.append(packet)
        elif event == "acknowledge" and pubacks:
            del flight[pubacks.pop(0)]
        elif event == "cut":
            pubacks.clear()
            wire = [(packet, number, True) for packet, number in sorted(flight.items(), key=lambda f: f[1])]
    assert stored == set(range(1, sent + 1))
