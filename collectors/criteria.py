"""Queries: which documents a `QueryCriteria` means, for every storage backend alike. Pure.

A filter names a field, nested ones with dots (`values.temperature`), and what it must be: a value,
or an object of comparisons that must all hold:

    {"source": "soil"}                          equal
    {"values.temperature": {"$gt": 20}}         $eq $ne $gt $gte $lt $lte $in $exists

`location_id` finds a document by where it is stored, unless the document has a field of that name itself.
"""

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, Generic, TypeVar

from collectors.models import QueryCriteria

Key = TypeVar("Key")

LOCATION_ID: Final = "location_id"
_MISSING: Final = object()
_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$eq": eq,
    "$ne": ne,
    "$gt": gt,
    "$gte": ge,
    "$lt": lt,
    "$lte": le,
}
_OPERATORS: Final = (*_COMPARISONS, "$in", "$exists")
# How results sort across types: what is missing first, then truth values, numbers, texts, others.
_KIND_OTHER: Final = 4


def lookup(document: Any, path: str) -> Any:
    """The value at a dotted path; a key that has dots itself is found as well."""
    if not isinstance(document, dict):
        return _MISSING
    if path in document:
        return document[path]
    at = path.find(".")
    while at != -1:
        head = document.get(path[:at], _MISSING)
        if head is not _MISSING:
            found = lookup(head, path[at + 1 :])
            if found is not _MISSING:
                return found
        at = path.find(".", at + 1)
    return _MISSING


@dataclass(frozen=True, slots=True)
class Condition:
    """One comparison: the value at a path, what it is held against, and how."""

    path: str
    operator: str
    operand: Any

    def holds(self, document: dict[str, Any]) -> bool:
        """Whether it holds for a document."""
        value = lookup(document, self.path)
        if self.operator == "$exists":
            return (value is not _MISSING) == bool(self.operand)
        if self.operator == "$ne":
            return bool(value is _MISSING or value != self.operand)
        if value is _MISSING:
            return False
        try:
            if self.operator == "$in":
                return value in self.operand
            return bool(_COMPARISONS[self.operator](value, self.operand))
        except TypeError:  # a text is neither above nor below a number, and a list is in no set
            return False


def compile_filters(filters: dict[str, Any]) -> list[Condition]:
    """The conditions that must all hold.

    Raises:
        ValueError: A filter makes no sense; the message says which.
    """
    conditions = []
    for path, wanted in filters.items():
        if isinstance(wanted, dict) and any(str(key).startswith("$") for key in wanted):
            for operator, operand in wanted.items():
                if operator not in _OPERATORS:
                    raise ValueError(
                        f"filter {path!r}: no comparison {operator!r}; there are {', '.join(_OPERATORS)}"
                    )
                if operator == "$in" and not isinstance(operand, list | tuple | set | frozenset):
                    raise ValueError(f"filter {path!r}: $in needs a list, not {operand!r}")
                conditions.append(Condition(path, operator, operand))
        else:
            conditions.append(Condition(path, "$eq", wanted))
    return conditions


def sort_key(value: Any) -> tuple[int, Any]:
    """An order over all JSON values."""
    if value is _MISSING or value is None:
        return (0, 0)
    if isinstance(value, bool):
        return (1, value)
    if isinstance(value, int | float):
        return (2, value)
    if isinstance(value, str):
        return (3, value)
    return (_KIND_OTHER, str(value))


class Selection(Generic[Key]):
    """What a `QueryCriteria` asks for.

    Attributes:
        conditions: What must hold, all of it.
        sort_path: What the result is sorted by; None leaves it in the order of the records.
        descending: Downwards. Equal ones stay in the order of the records either way.
        offset: How many of the first are left out.
        stop: How many of the first are needed, those left out included; None is all.
    """

    def __init__(self, criteria: QueryCriteria, *, location: Callable[[Key], str] = str) -> None:
        """Compile it.

        Args:
            criteria: Which records, and in which order.
            location: The location id of a key.

        Raises:
            ValueError: A filter makes no sense.
        """
        self.conditions = compile_filters(criteria.filters)
        self._located = LOCATION_ID in criteria.filters
        self._location = location
        sort_by = criteria.sort_by
        self.descending = sort_by is not None and sort_by.startswith("-")
        self.sort_path = sort_by[1:] if sort_by is not None and self.descending else sort_by
        self.offset = criteria.offset or 0
        self.stop = None if criteria.limit is None else self.offset + criteria.limit

    def matches(self, record: tuple[Key, dict[str, Any]]) -> bool:
        """Whether a record is asked for."""
        key, document = record
        if self._located:
            document = {LOCATION_ID: self._location(key), **document}
        return all(condition.holds(document) for condition in self.conditions)

    def rank(self, record: tuple[Key, dict[str, Any]]) -> tuple[int, Any]:
        """What a record is sorted by."""
        assert self.sort_path is not None
        return sort_key(lookup(record[1], self.sort_path))

    def first(self, records: Iterable[tuple[Key, dict[str, Any]]]) -> list[tuple[Key, dict[str, Any]]]:
        """Of records, those asked for, sorted; at most `stop`, and never more than that in memory."""
        found: Iterator[tuple[Key, dict[str, Any]]] = filter(self.matches, records)
        if self.sort_path is None:
            return list(islice(found, self.stop))
        if self.stop is None:
            return sorted(found, key=self.rank, reverse=self.descending)
        choose = heapq.nlargest if self.descending else heapq.nsmallest
        return choose(self.stop, found, key=self.rank)

    def page(self, first: list[tuple[Key, dict[str, Any]]]) -> list[tuple[Key, dict[str, Any]]]:
        """What is asked for, of what `first` gave."""
        return first[self.offset :]


def select(
    records: Iterable[tuple[Key, dict[str, Any]]],
    criteria: QueryCriteria,
    *,
    location: Callable[[Key], str] = str,
) -> list[tuple[Key, dict[str, Any]]]:
    """The records that match, sorted, without the first `offset`, at most `limit`.

    Holds no more than `offset + limit` records in memory when a limit is given. Without `sort_by`
    the order is that of the records; a leading `-` sorts downwards.

    Args:
        records: Documents with their keys in the backend.
        criteria: Which, and in which order.
        location: The location id of a key.

    Raises:
        ValueError: A filter makes no sense.
    """
    selection = Selection(criteria, location=location)
    return selection.page(selection.first(records))
