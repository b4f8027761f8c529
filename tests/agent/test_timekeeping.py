import pytest

from agent.timekeeping import ClockWatch, clock_is_synchronised, count_boot
from collectors.enums import ClockQuality


class Table:
    def __init__(self):
        self.rows = {}

    def get(self, key):
        return self.rows.get(key)

    async def put(self, key, document):
        self.rows[key] = document


async def test_boots_are_counted_once_each():
    table = Table()
    counts = [await count_boot(table, boot_id) for boot_id in ("a", "a", "b", "b", "a")]
    assert counts == [1, 1, 2, 2, 3]


async def test_this_boot_is_counted():
    table = Table()
    assert await count_boot(table) == await count_boot(table) == 1


@pytest.mark.parametrize(
    ("synchronised", "quality"), [(True, ClockQuality.SYNCED), (False, ClockQuality.ESTIMATED)]
)
async def test_the_clock_is_as_good_as_its_synchronisation(synchronised, quality):
    watch = ClockWatch(lambda: synchronised)
    assert watch.quality() is ClockQuality.ESTIMATED
    await watch.look()
    assert watch.quality() is quality


def test_this_machine_can_be_asked():
    assert clock_is_synchronised() in {True, False}
