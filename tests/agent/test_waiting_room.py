"""What waits in memory: in its order, bounded, and with the time at which it came."""

from __future__ import annotations

from datetime import UTC, datetime

from agent.waiting_room import WaitingRoom
from collectors.enums import ClockQuality
from collectors.metadata_keys import TAKEN, UP_NS
from collectors.models import CollectedData


def frame(n: int, size: int = 4) -> CollectedData:
    return CollectedData(
        source_id="soil",
        timestamp=datetime.now(UTC),
        data_format="json",
        collection_method="serial",
        raw_data=f"{n}".encode().ljust(size),
        metadata={UP_NS: n},
    )


def ups(room: WaitingRoom) -> list[int]:
    return [data.metadata[UP_NS] for data in room.leave(7)]


def test_they_leave_in_the_order_in_which_they_came() -> None:
    room = WaitingRoom()
    for n in range(3):
        room.add(frame(n))
    left = room.leave(7)
    first = next(left)
    room.add(frame(3))
    assert first.metadata == {UP_NS: 0, TAKEN: (7, ClockQuality.ESTIMATED)}
    assert [data.metadata[UP_NS] for data in left] == [1, 2, 3], "who comes meanwhile is last"
    assert len(room) == 0


def test_the_oldest_go_when_there_are_too_many_or_too_large_ones() -> None:
    room = WaitingRoom(count_max=3, bytes_max=100)
    for n in range(5):
        room.add(frame(n))
    assert room.told() == "3 frames wait in memory, 2 older ones are gone"
    room.add(frame(5, 95))
    assert room.told() == "2 frames wait in memory, 4 older ones are gone"
    assert ups(room) == [4, 5]
    room.add(frame(6, 101))
    assert (len(room), room.gone) == (0, 5), "one that is too large for it"


def test_the_frame_itself_is_left_as_it_is() -> None:
    room = WaitingRoom()
    data = frame(1)
    room.add(data)
    assert ups(room) == [1]
    assert data.metadata == {UP_NS: 1}
