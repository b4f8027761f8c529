"""A dead letter holds all that its frame needs to go the same way again."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import from_json

from agent.dead_letters import Letter, Selection, UnreadableLetterError, dead_letter, unprocessed
from agent.processors.decode import Decode
from collectors import metadata_keys as keys
from collectors.enums import ClockQuality
from collectors.models import CollectedData, Origin, Reading
from tests.rigs.codecs import without_options

ORIGIN = Origin(client="c", packet=7, payload_hash="ab")
names = st.text(min_size=1, max_size=5, alphabet=st.characters(exclude_categories=["Cs"]))
metadata = st.fixed_dictionaries(
    {},
    optional={
        keys.TAGS: st.dictionaries(names, names, min_size=1, max_size=3),
        keys.METRIC: names,
        keys.QUALITY: st.dictionaries(names, st.floats(-100, 100), min_size=1, max_size=2),
        keys.RETAINED: st.just(value=True),
        keys.UP_NS: st.integers(1, 2**50),
        keys.ORIGIN: st.just(ORIGIN),
    },
)


def data(raw=b'{"t": 1}', t=1_790_000_000.25, source="hall", **beside):
    return CollectedData(
        source_id=source,
        timestamp=datetime.fromtimestamp(t, UTC),
        data_format="json",
        collection_method="mqtt",
        raw_data=raw,
        metadata=beside,
    )


def letter_of(said, letter_id=1, stage="decode", reason="not JSON", **moment):
    return Letter(letter_id, from_json(dead_letter(said, stage=stage, reason=reason, **moment)))


@given(
    st.binary(max_size=50), st.floats(1e9, 2e9), metadata, st.sampled_from(ClockQuality), st.integers(0, 9)
)
async def test_what_is_taken_again_gives_what_it_would_have_given(raw, t, beside, clock, boot):
    said = data(raw, t, **beside)
    again = letter_of(said, clock=clock, boot=boot).data("json")
    assert again.raw_data == said.raw_data
    assert abs(again.timestamp.timestamp() - t) < 1e-5
    assert again.metadata == {**beside, keys.TAKEN: (boot, clock), keys.LETTER: 1}


async def test_its_time_is_that_of_its_arrival_whatever_the_clock_says_now():
    letter = letter_of(data(**{keys.UP_NS: 5}), boot=3, clock=ClockQuality.ESTIMATED)
    decode = Decode(without_options, boot=9, clock_quality=lambda: ClockQuality.SYNCED)
    (reading,) = (await decode.process(letter.data("json"))).processed_data
    assert (reading.t, reading.boot, reading.up, reading.clock) == (1_790_000_000.25, 3, 5, "estimated")


@pytest.mark.parametrize(
    "spoilt",
    [
        {"raw": "a"},
        {"raw": 7},
        {"method": ""},
        {"origin": [1]},
        {"t": 1e300},
        {"clock": "good"},
        {"source": 5},
    ],
)
def test_a_spoilt_letter_says_so(spoilt):
    letter = letter_of(data())
    with pytest.raises(UnreadableLetterError):
        Letter(1, {**letter.document, **spoilt}).data("json")


def test_readings_are_read_back():
    reading = Reading(source="hall", t=1.0, values={"x": 1})
    letter = Letter(4, from_json(unprocessed([reading], t=2, stage="scale:x", pipeline_id="p", reason="no")))
    assert (letter.readings(), letter.sources, letter.raw) == ([reading], ["hall"], None)


@pytest.mark.parametrize(
    ("selection", "is_meant"),
    [
        ({}, True),
        ({"ids": [(1, 3), (12, 20)]}, True),
        ({"ids": [(13, 20)]}, False),
        ({"source": "hall"}, True),
        ({"source": "boiler"}, False),
        ({"stage": "decode"}, True),
        ({"stage": "framing"}, False),
        ({"upstream": "cloud"}, False),
        ({"reason": "NOT js"}, True),
        ({"reason": "crc"}, False),
        ({"since_s": 1_790_000_000.25}, True),
        ({"since_s": 1_790_000_001}, False),
        ({"until_s": 1_790_000_000.25}, False),
        ({"source": "hall", "reason": "crc"}, False),
    ],
)
def test_a_selection_means_what_meets_all_of_it(selection, is_meant):
    assert Selection(**selection).matches(letter_of(data(), letter_id=12)) is is_meant
