"""Queries: which documents a `QueryCriteria` means, for every storage backend alike. Pure.

A filter names a field, nested ones with dots (`values.temperature`), and what it must be: a value,
or an object of comparisons that must all hold:

    {"source": "soil"}                          equal
    {"values.temperature": {"$gt": 20}}         $eq $ne $gt $gte $lt $lte $in $exists

`location_id` finds a document by where it is stored, unless the document has a field of that name itself.
"""

import heapq
from collections.abc import Callable, Iterable
from itertools import islice
from operator import eq, ge, gt, le, lt, ne
from typing import Any, Final, TypeVar

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


def _test(value: Any, operator: str, wanted: Any) -> bool:
    if operator == "$exists":
        return (value is not _MISSING) == bool(wanted)
    if operator == "$ne":
        return bool(value is _MISSING or value != wanted)
    if value is _MISSING:
        return False
    if operator == "$in":
        return value in wanted
    try:
        return _COMPARISONS[operator](value, wanted)
    except TypeError:  # a text is neither above nor below a number
        return False


def compile_filters(filters: dict[str, Any]) -> Callable[[dict[str, Any]], bool]:
    """A test for documents.

    Raises:
        ValueError: A filter makes no sense; the message says which.
    """
    tests: list[tuple[str, str, Any]] = []
    for path, wanted in filters.items():
        if isinstance(wanted, dict) and any(str(key).startswith("$") for key in wanted):
            for operator, operand in wanted.items():
                if operator not in _OPERATORS:
                    raise ValueError(
                        f"filter {path!r}: no comparison {operator!r}; there are {', '.join(_OPERATORS)}"
                    )
                if operator == "$in" and not isinstance(operand, list | tuple | set | frozenset):
                    raise ValueError(f"filter {path!r}: $in needs a list, not {operand!r}")
                tests.append((path, operator, operand))
        else:
            tests.append((path, "$eq", wanted))

    def matches(document: dict[str, Any]) -> bool:
        return all(_test(lookup(document, path), operator, wanted) for path, operator, wanted in tests)

    return matches


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
    matches = compile_filters(criteria.filters)
    if LOCATION_ID in criteria.filters:
        found = (record for record in records if matches({LOCATION_ID: location(record[0]), **record[1]}))
    else:
        found = (record for record in records if matches(record[1]))
    offset = criteria.offset or 0
    stop = None if criteria.limit is None else offset + criteria.limit
    if criteria.sort_by is None:
        return list(islice(found, offset, stop))
    path, descending = criteria.sort_by, criteria.sort_by.startswith("-")
    path = path[1:] if descending else path

    def key(record: tuple[Key, dict[str, Any]]) -> tuple[int, Any]:
        return sort_key(lookup(record[1], path))

    if stop is None:
        return sorted(found, key=key, reverse=descending)[offset:]
    chosen = heapq.nlargest(stop, found, key=key) if descending else heapq.nsmallest(stop, found, key=key)
    return chosen[offset:]
