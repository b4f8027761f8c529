"""The loss ledger: which ids will never be delivered, and why. Durable, so that it can be sent upstream."""

from typing import Any, Final

from buffer.journal import SmallTable
from buffer.recovery import Loss

_ENTRIES_MAX: Final = 1_000


class Ledger:
    """Entries `{table, first, last, count, alarms, why}` under running numbers.

    An entry that goes on where the last one ended, for the same reason, extends it. Beyond a
    thousand entries the two oldest become one, so that the ledger stays bounded and its sums right.
    """

    def __init__(self, table: SmallTable) -> None:
        self._table = table
        self._entries: dict[int, dict[str, Any]] = {int(key): row for key, row in table.items()}

    def add(self, table: str, loss: Loss, *, alarms: int = 0) -> None:
        """Enter a loss; durable when it returns.

        Raises:
            DiskFault: The disk refused; nothing was entered.
        """
        number = max(self._entries, default=0)
        last = self._entries.get(number)
        if (
            last is not None
            and (last["table"], last["why"]) == (table, loss.why)
            and last["last"] + 1 == loss.first
        ):
            entry = {
                **last,
                "last": loss.last,
                "count": last["count"] + loss.count,
                "alarms": last["alarms"] + alarms,
            }
        else:
            number += 1
            entry = {
                "table": table,
                "first": loss.first,
                "last": loss.last,
                "count": loss.count,
                "alarms": alarms,
                "why": loss.why,
            }
        changes: dict[int, dict[str, Any] | None] = {number: entry}
        if len(self._entries) >= _ENTRIES_MAX and number not in self._entries:
            changes |= self._merge_oldest()
        self._table.put_all({str(key): row for key, row in changes.items()})
        for key, row in changes.items():
            if row is None:
                self._entries.pop(key, None)
            else:
                self._entries[key] = row

    def _merge_oldest(self) -> dict[int, dict[str, Any] | None]:
        older, newer = sorted(self._entries)[:2]
        first, second = self._entries[older], self._entries[newer]
        merged = {
            **second,
            "first": min(first["first"], second["first"]),
            "last": max(first["last"], second["last"]),
            "count": first["count"] + second["count"],
            "alarms": first["alarms"] + second["alarms"],
            "why": second["why"] if second["why"] == first["why"] else "several",
        }
        return {older: None, newer: merged}

    def items(self) -> list[tuple[int, dict[str, Any]]]:
        """All entries with their numbers, oldest first."""
        return sorted((number, dict(entry)) for number, entry in list(self._entries.items()))

    @property
    def dropped(self) -> int:
        """How many records all entries count."""
        return sum(entry["count"] for entry in list(self._entries.values()))

    def remove(self, numbers: list[int]) -> None:
        """Remove entries that were told upstream.

        Raises:
            DiskFault: The disk refused; they are still there.
        """
        known = [number for number in numbers if number in self._entries]
        self._table.put_all({str(number): None for number in known})
        for number in known:
            del self._entries[number]
