"""What every framing holds to, whatever is sent and however it is cut into pieces.

What "intact" means behind garbage depends on the framing. One that ends frames with a terminator needs one between the
garbage and the frame, else both are one. One that is sought by its beginning, and checked, needs nothing; unchecked,
the garbage must not look like a beginning. One without a beginning needs a pause.
"""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.framing import FRAMINGS, FrameError
from tests.drivers.framings import CASES, PAUSE, Case, binary, chunked, good, run

CUTS = st.lists(st.integers(0, 5000), max_size=30)

every_case = pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])


def test_every_framing_is_tested():
    assert {case.config.type for case in CASES.values()} == set(FRAMINGS.own)


@every_case
@settings(max_examples=50)
@given(data=st.data(), cuts=CUTS)
def test_any_payloads_in_any_pieces_come_out_once_and_in_order(case: Case, data, cuts):
    payloads = data.draw(st.lists(case.payloads, max_size=8))
    stream = b"".join(map(case.config.encode, payloads))
    framer = case.config.framer()
    assert run(framer, chunked(stream, cuts)) == payloads
    assert (framer.counts.frames, framer.counts.errors, framer.counts.dropped_bytes) == (len(payloads), {}, 0)


@every_case
@settings(max_examples=50)
@given(data=st.data(), cuts=CUTS)
def test_any_garbage_between_frames_costs_none(case: Case, data, cuts):
    config = case.config
    chunks: list[bytes | None] = []
    payloads = data.draw(st.lists(case.payloads, min_size=1, max_size=5))
    for payload in payloads:
        chunks += [*chunked(data.draw(case.garbage), cuts), *case.behind_garbage]
        chunks += chunked(config.encode(payload), cuts)
    found = good(run(config.framer(), chunks))
    left = iter(found)
    assert all(payload in left for payload in payloads)  # in order: each search goes on after the last


@every_case
@settings(max_examples=50)
@given(stream=binary(max_size=400), cuts=CUTS)
def test_any_bytes_in_any_pieces_say_the_same_and_what_comes_out_was_there(case: Case, stream, cuts):
    whole, cut = case.config.framer(), case.config.framer()
    found = run(whole, [stream])
    assert run(cut, chunked(stream, cuts)) == found
    assert cut.counts == whole.counts
    frames = good(found)
    assert len(frames) == whole.counts.frames
    assert len(found) - len(frames) == sum(whole.counts.errors.values())
    if len(frames) < len(found):
        assert whole.counts.dropped_bytes
    elif not whole.counts.skipped:
        assert not whole.counts.dropped_bytes
    assert sum(map(len, frames)) + whole.counts.dropped_bytes <= len(stream)


@every_case
@settings(max_examples=50)
@given(chunk=binary(min_size=1, max_size=300))
def test_memory_stays_below_the_longest_frame(case: Case, chunk):
    framer = case.config.framer()
    longest = getattr(framer, "_longest", 0) or framer._max_length + len(framer._terminator) - 1
    for _ in range(60):
        framer.feed(chunk)
        held = framer._buffer if hasattr(framer, "_buffer") else framer._partial
        assert len(held) <= longest
        assert len(getattr(framer, "_garbage", b"")) <= longest


@every_case
def test_a_framer_goes_on_after_a_pause(case: Case):
    payload = b"1234567"
    frame = case.config.encode(payload)
    framer = case.config.framer()
    framer.feed(frame)
    found = run(framer, [frame[: len(frame) // 2], PAUSE, frame, frame])
    assert good(found) == [payload, payload]
    assert isinstance(found[0], FrameError)


NOISE_BYTES = 10_000_000
PIECE_BYTES = 4096


@pytest.mark.slow
@every_case
def test_ten_million_random_bytes_do_no_harm(case: Case):
    rng = random.Random(3)
    framer = case.config.framer()
    given_out = 0
    for _ in range(NOISE_BYTES // PIECE_BYTES + 1):
        given_out += sum(
            len(found) if isinstance(found, bytes) else 0 for found in framer.feed(rng.randbytes(PIECE_BYTES))
        )
    framer.finish()
    assert given_out + framer.counts.dropped_bytes <= NOISE_BYTES + PIECE_BYTES
