"""What is missing, and why: held against every reading's own fate, and asked by command."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from agent.receiver.gaps import Missing, by_device, missing_of
from agent.receiver.store import Coverage, KnownLoss, store_for
from agent.sync.losses import ToldLoss, ToldLosses
from collectors.clock import SystemClock
from tests.receiver.packs import STORE, received
from tests.rigs.programs import run_command

if TYPE_CHECKING:
    from pathlib import Path

FULL, TORN = "full: oldest dropped", "damaged or torn at the end"


def coverage(holes: list[tuple[int, int]], *losses: KnownLoss, first: int = 1, last: int = 100) -> Coverage:
    missing = sum(b - a + 1 for a, b in holes)
    return Coverage("d", "s", first, last, last - first + 1 - missing, holes, list(losses))


def test_nothing_is_missing():
    assert missing_of(coverage([])) == Missing()


def test_each_gap_has_its_reason():
    found = missing_of(
        coverage([(5, 9), (20, 29), (50, 50)], KnownLoss(5, 9, 5, FULL), KnownLoss(15, 40, 0, "never issued"))
    )
    assert found.dropped == {FULL: 5}
    assert found.never_issued == 10
    assert (found.unexplained, found.suspects) == (1, [(50, 50)])


def test_a_ledger_explains_no_more_than_it_counts():
    """Its range may hold readings of the other lane, which were not dropped and have come, or not."""
    found = missing_of(coverage([(10, 29)], KnownLoss(10, 29, 12, FULL), KnownLoss(12, 20, 3, TORN)))
    assert found.dropped == {FULL: 12, TORN: 3}
    assert (found.unexplained, found.suspects) == (5, [(10, 29)])


def test_what_was_lost_before_the_first_and_after_the_last_that_came():
    found = missing_of(
        coverage([], KnownLoss(1, 30, 30, FULL), KnownLoss(98, 120, 20, FULL), first=21, last=100)
    )
    assert found.dropped == {FULL: 20 + 20}
    assert found.unexplained == 0
    assert missing_of(coverage([], first=21)).total == 0, "what went before the first is nobody's gap"


def test_losses_without_a_number_leave_no_gap():
    found = missing_of(coverage([], KnownLoss(0, 0, 7, "memory full")))
    assert found.dropped_without_number == {"memory full": 7}
    assert found.by_kind() == {"dropped": 7, "never issued": 0, "unexplained": 0}


def test_a_buffer_of_which_only_losses_came():
    found = missing_of(Coverage("d", "s", 0, 0, 0, [], [KnownLoss(1, 10, 10, FULL)]))
    assert found.dropped == {FULL: 10}


FATES = ["came", FULL, TORN, "never issued", "silent"]


@given(st.lists(st.sampled_from(FATES), min_size=1, max_size=40), st.data())
def test_what_it_says_is_what_happened(fates: list[str], data: st.DataObject):
    """A ledger's entries may reach over what came, but count only what was lost."""
    ids = {fate: [n for n, each in enumerate(fates, 1) if each == fate] for fate in FATES}
    came = ids["came"]
    losses = []
    for why in (FULL, TORN):
        left = ids[why]
        while left:
            size = data.draw(st.integers(1, len(left)))
            losses.append(KnownLoss(left[0], left[size - 1], size, why))
            left = left[size:]
    losses += [KnownLoss(n, n, 0, "never issued") for n in ids["never issued"]]
    holes = [(n, n) for n in range(min(came, default=1), max(came, default=0)) if n not in came]
    one = Coverage("d", "s", min(came, default=0), max(came, default=0), len(came), holes, losses)
    found = missing_of(one)
    assert found.dropped == Counter({why: len(ids[why]) for why in (FULL, TORN) if ids[why]})
    assert found.never_issued == len(ids["never issued"])
    silent = [n for n in ids["silent"] if came and came[0] < n < came[-1]]
    # Silent ones beyond the ends are seen where an entry of the ledger reaches over them.
    assert len(silent) <= found.unexplained <= len(ids["silent"])
    assert all(any(a <= n <= b for a, b in found.suspects) for n in silent)
    assert by_device([one, one])["d"].total == 2 * found.total


async def test_the_command(tmp_path: Path):
    url = f"sqlite:///{tmp_path / 'r.db'}"
    dropped = ToldLoss(first=21, last=30, count=10, lane="normal", why=FULL, since=1, until=2)
    never = ToldLoss(first=41, last=45, count=0, why="never issued", since=1, until=2)
    async with store_for(url, SystemClock()) as store:
        packs = [
            received(1, 20),
            received(31, 10),
            received(46, 5),
            received(52, 9),
            received(1, 9, device="b"),
        ]
        await store.write(
            packs, [], [ToldLosses(device="greenhouse-3", store=STORE, version=1, losses=[dropped, never])]
        )
    done = run_command("gaps", url)
    assert done.stdout.splitlines() == [
        f"b (buffer {STORE}): 9 readings, 1 to 9",
        "  nothing is missing",
        f"greenhouse-3 (buffer {STORE}): 44 readings, 1 to 60",
        "  dropped             10  full: oldest dropped",
        "  never issued         5",
        "  unexplained          1  among 51",
    ]
    assert done.returncode == 1
    assert run_command("gaps", url, "--device", "b").returncode == 0
    (said,) = json.loads(run_command("gaps", url, "--device", "greenhouse-3", "--json").stdout)
    assert said["unexplained_among"] == [[51, 51]]
    assert said["dropped"] == {FULL: 10}
    done = run_command("gaps", f"sqlite:///{tmp_path / 'nowhere.db'}")
    assert (done.returncode, "no such file" in done.stderr) == (1, True)
    assert run_command("gaps", "x.db").returncode == 2
