from agent.timekeeping import Boot, recognise_boot
from tests.rigs.clock_table import MemoryTable


async def test_boots_are_counted_once_each():
    table = MemoryTable()
    boots = [await recognise_boot(table, boot_id) for boot_id in ("a", "a", "b", "b", "a")]
    assert [(boot.count, boot.is_new) for boot in boots] == [
        (1, True),
        (1, False),
        (2, True),
        (2, False),
        (3, True),
    ]


async def test_this_boot_is_recognised():
    table = MemoryTable()
    assert await recognise_boot(table) == Boot(1, is_new=True)
    assert await recognise_boot(table) == Boot(1, is_new=False)
