"""Which lane goes when: rank, shares, limits, order; and live readings while a backlog drains over a slow link."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.sync.lanes import LANES, SendLane
from agent.sync.limits import Limit, Load
from agent.sync.link import LinkEstimate
from agent.sync.schedule import Schedule, SchedulePolicy
from tests.sync.virtual_link import Message, Passage, VirtualLink

ALARM, LIVE, BACKFILL = LANES

lanes = st.sampled_from(LANES)
loads = st.builds(Load, st.integers(1, 5000), st.integers(1, 50))
limits = st.lists(
    st.one_of(
        st.builds(Limit, st.just("messages"), st.integers(1, 10), st.sampled_from([1.0, 7.0])),
        st.builds(Limit, st.just("bytes"), st.integers(5000, 20_000), st.sampled_from([1.0, 7.0])),
        st.builds(Limit, st.just("points"), st.integers(50, 200), st.sampled_from([1.0, 7.0])),
    ),
    max_size=3,
)


@st.composite
def traffic(draw: st.DrawFn) -> list[Message]:
    found = draw(st.lists(st.tuples(lanes, loads, st.floats(0, 20)), min_size=1, max_size=80))
    return [Message(lane, load, 1000.0 + at_s, place) for place, (lane, load, at_s) in enumerate(found)]


@settings(deadline=None)
@given(
    messages=traffic(),
    limits=limits,
    bytes_s=st.sampled_from([2000.0, 50_000.0, 1e9]),
    window=st.integers(1, 20),
)
def test_whatever_is_ready_all_goes_in_order_within_every_limit(messages, limits, bytes_s, window):
    link = VirtualLink(Schedule(SchedulePolicy(limits=limits)), bytes_s=bytes_s, in_flight_max=window)
    passages = link.run(messages, until_s=5000)
    assert len(passages) == len(messages), "none starves"
    for lane in LANES:
        own = [p.message for p in passages if p.message.lane is lane]
        assert own == sorted(own, key=lambda message: (message.ready_s, message.number))
    for limit in limits:
        for last in passages:
            from_s = last.sent_s - limit.period_s + 1e-9
            inside = [p for p in passages if from_s < p.sent_s <= last.sent_s]
            assert sum(p.message.load.of(limit.unit) for p in inside) <= limit.amount


@settings(deadline=None)
@given(messages=traffic(), bytes_s=st.sampled_from([2000.0, 50_000.0]))
def test_nothing_goes_ahead_of_a_lane_of_higher_rank_but_by_its_minimum_share(messages, bytes_s):
    passages = VirtualLink(Schedule(SchedulePolicy()), bytes_s=bytes_s, in_flight_max=4).run(messages)
    shares = {LIVE: 0.1, BACKFILL: 0.05}
    for lower in (LIVE, BACKFILL):
        higher = LANES[: LANES.index(lower)]
        ahead, earned = 0, 0.0
        for place, passage in enumerate(passages):
            lane = passage.message.lane
            if lane in higher:
                earned += shares[lower] * passage.message.load.size_bytes
            elif lane is lower:
                later = [p.message for p in passages[place + 1 :] if p.message.lane in higher]
                if any(message.ready_s < passage.sent_s for message in later):
                    ahead += passage.message.load.size_bytes
        assert ahead <= earned


def stream(lane: SendLane, size: int, every_s: float, count: int) -> list[Message]:
    return [Message(lane, Load(size), 1000.0 + place * every_s, place) for place in range(count)]


def sizes(passages: list[Passage], lane: SendLane) -> int:
    return sum(p.message.load.size_bytes for p in passages if p.message.lane is lane)


def ages(passages: list[Passage], lane: SendLane) -> list[float]:
    return sorted(p.arrived_s - p.message.ready_s for p in passages if p.message.lane is lane)


@pytest.mark.parametrize("bytes_s", [8_000.0, 50_000.0, 1_000_000.0])
@pytest.mark.parametrize("round_trip_s", [0.02, 0.2, 0.6])
def test_live_readings_arrive_at_once_while_a_backlog_drains(bytes_s, round_trip_s):
    link = VirtualLink(Schedule(SchedulePolicy()), bytes_s, round_trip_s, in_flight_max=40)
    live = stream(LIVE, int(bytes_s / 20), 1.0, 120)
    backlog = stream(BACKFILL, int(min(6000, bytes_s / 4)), 0.0, int(bytes_s * 200 / min(6000, bytes_s / 4)))
    passages = link.run([*live, *backlog], until_s=1120)
    late = ages(passages, LIVE)
    assert len(late) == 120
    assert late[int(len(late) * 0.99)] < 0.9 + round_trip_s, late[-5:]
    share = sizes([p for p in passages if p.sent_s > 1020], BACKFILL) / (bytes_s * 100)
    assert 0.15 <= share <= 0.35, share


@pytest.mark.parametrize("bytes_s", [8_000.0, 100_000.0, 5_000_000.0])
@pytest.mark.parametrize("round_trip_s", [0.002, 0.2])
def test_a_backlog_alone_fills_the_link(bytes_s, round_trip_s):
    size = int(min(40_000, bytes_s / 8))
    link = VirtualLink(Schedule(SchedulePolicy()), bytes_s, round_trip_s, in_flight_max=100)
    passages = link.run(stream(BACKFILL, size, 0.0, int(bytes_s * 30 / size)))
    assert passages[-1].arrived_s - 1000.0 < 30 / 0.9 + round_trip_s


def test_a_flood_of_alarms_leaves_the_others_their_minimum():
    link = VirtualLink(Schedule(SchedulePolicy()), 50_000.0, in_flight_max=4)
    flood = stream(ALARM, 1000, 0.0, 6000)
    passages = link.run(
        [*flood, *stream(LIVE, 500, 0.0, 2000), *stream(BACKFILL, 4000, 0.0, 200)], until_s=1100
    )
    total = sum(p.message.load.size_bytes for p in passages)
    assert sizes(passages, LIVE) > total * 0.08
    assert sizes(passages, BACKFILL) > total * 0.04
    assert sizes(passages, ALARM) > total * 0.8


def test_the_backlog_yields_when_the_other_end_is_overloaded_and_comes_back():
    schedule = Schedule(SchedulePolicy())
    schedule.overloaded(1000.0)
    schedule.overloaded(1000.5)
    assert schedule.pace == 0.5, "once a second"
    for second in range(1, 20):
        schedule.overloaded(1000.0 + second)
    assert schedule.pace == pytest.approx(0.05, abs=0.06)
    link = VirtualLink(schedule, 50_000.0, now_s=1020.0)
    passages = link.run(stream(BACKFILL, 4000, 0.0, 500))
    assert schedule.pace == 1.0
    first = [p for p in passages if p.sent_s < 1025]
    assert sizes(first, BACKFILL) < 5 * 50_000 * 0.6 + 64 * 1024


def test_room_for_live_readings_is_kept_under_a_limit():
    limit = Limit("messages", 8, 1.0)
    link = VirtualLink(Schedule(SchedulePolicy(limits=[limit])), round_trip_s=0.1)
    passages = link.run([*stream(LIVE, 500, 1.3, 60), *stream(BACKFILL, 4000, 0.0, 2000)], until_s=1070)
    assert ages(passages, LIVE)[-2] < 0.3
    assert sum(p.message.lane is BACKFILL for p in passages) > 300


def test_in_a_hurry_the_backlog_leaves_nothing_to_others():
    schedule = Schedule(SchedulePolicy())
    schedule.hurry = True
    link = VirtualLink(schedule, 100_000.0)
    passages = link.run([*stream(LIVE, 500, 0.5, 40), *stream(BACKFILL, 5000, 0.0, 200)])
    assert passages[-1].arrived_s < 1000 + (1_020_000 / 100_000) * 1.1 + 10


def test_a_policy_makes_sense():
    with pytest.raises(ValueError, match="share"):
        SchedulePolicy(share=0.1, share_min=0.2)


def test_a_link_that_became_slower_is_noticed_by_its_queue_only():
    link = LinkEstimate()
    now_s, size = 0.0, 5000
    for _ in range(5):
        link.sent(now_s)  # something is on its way at every moment
    for rate, queue_s in ((100_000, 0.0), (20_000, 0.0), (20_000, 0.5)):
        for _ in range(200):
            now_s += size / rate
            link.acknowledged(now_s, size, now_s - 0.1 - queue_s)
            link.sent(now_s)
        if not queue_s:
            assert link.bandwidth_bytes_s == pytest.approx(100_000), "nobody asked for more"
    assert link.bandwidth_bytes_s == pytest.approx(20_000, rel=0.1)
    assert link.round_trip_s == pytest.approx(0.6), "the shortest of late"
    link.cut()
    assert link.round_trip_s == float("inf")
