"""What is missing, and why: held against every reading's own fate, and asked by command."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.receiver.gaps import Missing, by_device, cuts, missing_of
from agent.receiver.sqlite_store import SqliteStore
from agent.receiver.store import Coverage, KnownExtent, KnownLoss, Part, store_for
from agent.sync.extent import ToldExtent
from agent.sync.losses import ToldLoss, ToldLosses
from collectors.clock import SystemClock
from tests.receiver.packs import STORE, received
from tests.rigs.programs import run_command

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FULL, TORN = "full: oldest dropped", "damaged or torn at the end"


def coverage(
    came: Iterable[int], *losses: KnownLoss, extents: Sequence[KnownExtent] = (), store: str = "s"
) -> Coverage:
    """As a store gives it when these have come."""
    numbers = sorted(set(came))
    first, last = (numbers[0], numbers[-1]) if numbers else (0, 0)
    found = Coverage("d", store, first, last, len(numbers), list(losses), list(extents))
    found.parts = [Part(a, b, sum(a <= n <= b for n in numbers)) for a, b in cuts(found)]
    return found


def all_but(*holes: tuple[int, int], first: int = 1, last: int = 100) -> list[int]:
    return [n for n in range(first, last + 1) if not any(a <= n <= b for a, b in holes)]


def extent(begins: int, settled: int, newest: int, **other: object) -> KnownExtent:
    known = KnownExtent("cloud", begins, 0, 0, settled, newest, routed=False, aside=(), told_at=0.0)
    return replace(known, **other)  # type: ignore[arg-type]


def test_nothing_is_missing():
    assert missing_of(coverage(all_but())) == Missing()
    assert missing_of(coverage(all_but(), extents=[extent(1, 100, 100)])) == Missing()
    assert missing_of(coverage([], extents=[extent(1, 0, 0)])) == Missing()


def test_each_gap_has_its_reason():
    found = missing_of(
        coverage(
            all_but((5, 9), (20, 29), (50, 50)),
            KnownLoss(5, 9, 5, FULL),
            KnownLoss(15, 40, 0, "never issued"),
        )
    )
    assert found.dropped == {FULL: 5}
    assert found.never_issued == 10
    assert found.unexplained == 1
    assert (50, 50) in [(max(a, 50), min(b, 50)) for a, b in found.suspects]


def test_a_ledger_explains_no_more_than_it_counts():
    """Its range may hold readings of the other lane, which were not dropped and have come, or not."""
    found = missing_of(coverage(all_but((10, 29)), KnownLoss(10, 29, 12, FULL), KnownLoss(12, 20, 3, TORN)))
    assert found.dropped == {FULL: 12, TORN: 3}
    assert (found.unexplained, found.suspects) == (5, [(10, 29)])


def test_an_entry_explains_nothing_outside_its_own_range():
    """Though another one overlaps both: what it counts too much had come before it was dropped."""
    found = missing_of(
        coverage(all_but((1, 9), last=200), KnownLoss(1, 100, 1, FULL), KnownLoss(90, 200, 50, TORN))
    )
    assert (found.dropped, found.unexplained) == ({FULL: 1}, 8)


def test_of_entries_that_overlap_each_explains_what_the_other_cannot():
    found = missing_of(
        coverage(all_but((1, 10), (50, 59)), KnownLoss(1, 100, 10, FULL), KnownLoss(1, 20, 10, TORN))
    )
    assert (found.dropped, found.unexplained) == ({FULL: 10, TORN: 10}, 0)


def test_without_an_extent_the_ends_are_what_came_and_what_the_ledger_tells():
    found = missing_of(coverage(all_but(first=21), KnownLoss(1, 30, 30, FULL), KnownLoss(98, 120, 20, FULL)))
    assert found.dropped == {FULL: 20 + 20}
    assert found.unexplained == 0
    assert missing_of(coverage(all_but(first=21))).total == 0, "what went before the first is nobody's gap"


def test_a_loss_at_either_end_is_seen_once_the_device_says_how_far_it_is():
    found = missing_of(coverage(all_but(first=21, last=90), extents=[extent(11, 100, 120)]))
    assert (found.unexplained, found.suspects) == (10 + 10, [(11, 20), (91, 100)])
    assert found.under_way == 20
    assert missing_of(coverage([], extents=[extent(1, 7, 9)])).by_kind() == {
        "dropped": 0,
        "never issued": 0,
        "set aside": 0,
        "under way": 2,
        "not judged": 0,
        "unexplained": 7,
    }


def test_what_was_there_before_the_upstream_was_made_is_not_owed():
    late = extent(31, 100, 100, since=60, absent=5)
    found = missing_of(coverage(all_but((1, 30), (41, 46)), extents=[late], store="s"))
    assert found.by_kind() | {"unexplained": 0} == Missing().by_kind()
    assert found.unexplained == 1


def test_an_entry_that_began_before_the_upstream_explains_first_what_is_owed():
    late = extent(51, 100, 100)
    found = missing_of(coverage(all_but((1, 60), first=1), KnownLoss(1, 60, 10, FULL), extents=[late]))
    assert (found.dropped, found.unexplained) == ({FULL: 10}, 0)


def test_what_a_route_keeps_back_is_no_loss():
    alarms = extent(1, 100, 100, routed=True)
    found = missing_of(coverage([10, 20, 30], KnownLoss(40, 49, 10, FULL), extents=[alarms]))
    assert found.by_kind() | {"not judged": 0, "dropped": 0} == Missing().by_kind()
    assert (found.not_judged, found.dropped) == (87, {FULL: 10})
    both = [alarms, extent(51, 90, 100, upstream="all")]
    found = missing_of(coverage([10, 20, 30], extents=both))
    assert (found.not_judged, found.unexplained, found.under_way) == (47, 40, 10)


def test_what_was_refused_lies_on_the_device():
    """Under two upstreams the same readings; and what was sent again and has come needs no explanation."""
    refused = [
        extent(1, 100, 100, aside=((11, 20, 10), (40, 49, 5))),
        extent(1, 90, 90, upstream="b", aside=((11, 20, 10),)),
    ]
    found = missing_of(coverage(all_but((11, 18), (45, 50)), KnownLoss(46, 48, 1, FULL), extents=refused))
    assert (found.set_aside, found.dropped, found.unexplained) == (8 + 4, {FULL: 1}, 1)
    assert found.total == 14


def test_losses_without_a_number_leave_no_gap():
    found = missing_of(coverage(all_but(), KnownLoss(0, 0, 7, "memory full")))
    assert found.dropped_without_number == {"memory full": 7}
    assert found.by_kind() == Missing().by_kind() | {"dropped": 7}


def test_a_buffer_of_which_only_losses_came():
    assert missing_of(coverage([], KnownLoss(1, 10, 10, FULL))).dropped == {FULL: 10}


CAME, NEVER, SILENT, WAITING = "came", "never issued", "silent", "waiting"
FATES = [CAME, FULL, TORN, NEVER, SILENT, WAITING]


@dataclass
class Device:
    """Every number's own fate, and what was told of it."""

    fates: dict[int, str]
    begins: int
    since: int
    settled: int
    newest: int
    losses: list[ToldLoss]

    def of(self, *fates: str, first: int = 1, last: int = 10**9) -> list[int]:
        return [n for n, fate in self.fates.items() if fate in fates and first <= n <= last]

    def told(self) -> ToldLosses:
        absent = len(self.of("absent", first=self.begins, last=self.since))
        how_far = ToldExtent(
            upstream="cloud",
            begins=self.begins,
            since=self.since,
            absent=absent,
            settled=self.settled,
            newest=self.newest,
        )
        return ToldLosses(device="greenhouse-3", store=STORE, version=1, losses=self.losses, extent=how_far)

    @property
    def reach(self) -> int:
        """The highest number that the receiver knows of."""
        return max([self.newest, *self.of(CAME), *(loss.last for loss in self.losses)])

    def straddles(self) -> bool:
        """Whether an entry reaches over the settled mark: then what hides in it is seen only when the mark has passed it."""
        ranges = [(loss.first, loss.last) for loss in self.losses if loss.count]
        ranges += [(self.begins, self.since)]
        return any(first <= self.settled < last for first, last in ranges)


def entries(data: st.DataObject, numbers: list[int], why: str) -> list[ToldLoss]:
    """Any entries that count each of these once, of either lane, with ranges that overlap those of others."""
    found = []
    lanes = data.draw(
        st.lists(st.sampled_from(["normal", "alarm"]), min_size=len(numbers), max_size=len(numbers))
    )
    for lane in ("normal", "alarm"):
        left = [n for n, each in zip(numbers, lanes, strict=True) if each == lane]
        while left:
            size = data.draw(st.integers(1, len(left)))
            found.append(
                ToldLoss(first=left[0], last=left[size - 1], count=size, lane=lane, why=why, since=1, until=2)
            )
            left = left[size:]
    return found


@st.composite
def devices(draw: st.DrawFn, *, ended: bool) -> Device:
    """A device, with all that may become of a number; one that has ended has nothing under way."""
    data = draw(st.data())
    fates = draw(st.lists(st.sampled_from(FATES), min_size=1, max_size=30))
    numbers = dict(enumerate(fates, 1))
    if ended:
        numbers = {n: CAME if fate == WAITING else fate for n, fate in numbers.items()}
    count = len(numbers)
    since = draw(st.integers(0, count))
    begins = draw(st.integers(1, since + 1))
    for n in range(1, since + 1):  # what had gone by the time when the upstream was made
        if n < begins or draw(st.booleans()):
            numbers[n] = "absent"
    waiting = [n for n, fate in numbers.items() if fate == WAITING]
    settled_max = min(waiting, default=count + 1) - 1
    newest = count if ended else draw(st.integers(max(settled_max, since), count))
    settled = count if ended else draw(st.integers(0, min(settled_max, newest)))
    losses = []
    for why in (FULL, TORN):
        losses += entries(data, [n for n, fate in numbers.items() if fate == why], why)
    losses += [
        ToldLoss(first=n, last=n, count=0, why=NEVER, since=1, until=2)
        for n, fate in numbers.items()
        if fate == NEVER
    ]
    return Device(numbers, begins, since, max(settled, begins - 1), newest, losses)


async def reported(device: Device) -> tuple[Missing, list[tuple[int, int]]]:
    """What the receiver says, from its own database; and where what is unexplained may be."""
    async with SqliteStore(":memory:", SystemClock()) as store:
        packs = [received(n, 1) for n in device.of(CAME)]
        await store.write(packs, [], [device.told()])
        await store.write([], [], [device.told()])
        (found,) = await store.coverage()
        missing = missing_of(found)
        return missing, await store.holes(found.device_id, found.store_id, missing.suspects, 1000)


@settings(max_examples=60)
@given(devices(ended=True))
async def test_in_the_end_every_number_is_accounted_for(device: Device):
    missing, among = await reported(device)
    silent = device.of(SILENT, first=device.begins)
    assert missing.unexplained == len(silent)
    assert missing.under_way == missing.not_judged == 0
    assert missing.dropped == Counter({why: len(device.of(why)) for why in (FULL, TORN) if device.of(why)})
    assert missing.never_issued == len(device.of(NEVER))
    assert all(any(a <= n <= b for a, b in among) for n in silent)
    arrived = set(device.of(CAME))
    assert not any(n in arrived for a, b in among for n in range(a, b + 1))


@settings(max_examples=60)
@given(devices(ended=False))
async def test_while_it_is_under_way_nothing_is_called_lost_that_may_still_come(device: Device):
    missing, among = await reported(device)
    silent = device.of(SILENT, first=device.begins, last=device.settled)
    beyond = device.of(SILENT, WAITING, first=max(device.begins, device.settled + 1), last=device.reach)
    assert missing.dropped == Counter({why: len(device.of(why)) for why in (FULL, TORN) if device.of(why)})
    assert missing.never_issued == len(device.of(NEVER))
    assert missing.unexplained + missing.under_way == len(silent) + len(beyond)
    assert missing.unexplained <= len(silent)
    if not device.straddles():
        assert missing.unexplained == len(silent)
        assert all(any(a <= n <= b for a, b in among) for n in silent)


@given(devices(ended=True), st.data())
def test_of_a_device_that_tells_no_extent_what_it_says_is_what_happened(device: Device, data: st.DataObject):
    """Silent losses beyond the ends are seen only where an entry of the ledger reaches over them."""
    came = device.of(CAME)
    losses = [KnownLoss(loss.first, loss.last, loss.count, loss.why) for loss in device.losses]
    one = coverage(came, *losses)
    found = missing_of(one)
    assert found.never_issued == len(device.of(NEVER))
    silent = [n for n in device.of(SILENT, "absent") if came and came[0] < n < came[-1]]
    assert len(silent) <= found.unexplained <= len(device.of(SILENT, "absent"))
    assert all(any(a <= n <= b for a, b in found.suspects) for n in silent)
    assert by_device([one, one])["d"].total == 2 * found.total


async def test_more_gaps_than_are_listed_are_counted_all_the_same(tmp_path: Path):
    """Every other number is missing; text and JSON say that the list is cut, and the count is exact."""
    url = f"sqlite:///{tmp_path / 'r.db'}"
    async with store_for(url, SystemClock()) as store:
        await store.write([received(n, 1) for n in range(1, 2602, 2)])
    done = run_command("gaps", url)
    assert "  unexplained       1300  among 2, 4, 6," in done.stdout
    assert done.stdout.endswith(", 40 and further ranges\n")
    (said,) = json.loads(run_command("gaps", url, "--json").stdout)
    assert (said["unexplained"], said["unexplained_among_cut"]) == (1300, True)
    assert said["unexplained_among"] == [[n, n] for n in range(2, 2001, 2)]


async def test_the_command(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'r.db'}"
    dropped = ToldLoss(first=21, last=30, count=10, lane="normal", why=FULL, since=1, until=2)
    never = ToldLoss(first=41, last=45, count=0, why="never issued", since=1, until=2)
    how_far = ToldExtent(upstream="cloud", begins=1, settled=61, newest=64)
    routed = ToldExtent(upstream="alarms", begins=1, settled=12, newest=12, routed=True)
    async with store_for(url, SystemClock()) as store:
        packs = [
            received(1, 20),
            received(31, 10),
            received(46, 5),
            received(52, 9),
            received(1, 9, device="b"),
            received(3, 1, device="c"),
        ]
        losses = [
            ToldLosses(device="greenhouse-3", store=STORE, version=1, losses=[dropped, never]),
            ToldLosses(device="greenhouse-3", store=STORE, version=2, losses=[], extent=how_far),
            ToldLosses(device="c", store=STORE, version=2, losses=[], extent=routed),
        ]
        await store.write(packs, [], losses)
    done = run_command("gaps", url)
    lines = done.stdout.splitlines()
    under_way = lines.pop(7)
    assert lines == [
        f"b (buffer {STORE}): 9 readings, 1 to 9",
        "  nothing is missing",
        f"c (buffer {STORE}): 1 readings, 3 to 3",
        "  not judged          11  not for here, or lost: the upstream has a route",
        f"greenhouse-3 (buffer {STORE}): 44 readings, 1 to 60",
        "  dropped             10  full: oldest dropped",
        "  never issued         5",
        "  unexplained          2  among 51, 61",
    ]
    assert under_way.startswith("  under way            3  as the device said at 20")
    assert done.returncode == 1
    assert run_command("gaps", url, "--device", "b").returncode == 0
    (said,) = json.loads(run_command("gaps", url, "--device", "greenhouse-3", "--json").stdout)
    assert said["unexplained_among"] == [[51, 51], [61, 61]]
    assert (said["under_way"], said["unexplained_among_cut"]) == (3, False)
    assert said["dropped"] == {FULL: 10}
    assert said["extents"][0]["settled"] == 61
    done = run_command("gaps", f"sqlite:///{tmp_path / 'nowhere.db'}")
    assert (done.returncode, "no such file" in done.stderr) == (1, True)
    assert run_command("gaps", "x.db").returncode == 2
