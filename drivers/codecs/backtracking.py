"""How long a regular expression can take over a line, found out before it meets one.

A matcher that searches back tries another way wherever a pattern leaves it a choice. Most choices are none: of
`[0-9]+,` the next character says which way is right, and a wrong one fails at once. A choice whose ways can begin
with the same character multiplies what is to be tried: an open one, such as `.*T`, by the length of the line, a bounded
one by its number of ways. Inside a repetition it multiplies with each turn, and `(a+)+b` takes 2**n steps.

So each choice is looked at with the characters that can begin its ways (the FIRST and FOLLOW sets of LL(1) parsers).
Ambiguous ones outside repetitions are multiplied up, ambiguous ones inside are refused. The finding errs to the safe
side: letters count as equal in either case, characters beyond ASCII as one of three kinds.
"""

from __future__ import annotations

from importlib import import_module
from math import comb
from typing import Any, Final, NamedTuple

STEPS_MAX: Final = 300_000
"""Ways to cut a line into parts, each tried in half a microsecond: 0.15 s for a line that was made to be slow. Lines of a
sensor take microseconds."""

_ALL: Final = (1 << 131) - 1
_OTHER_WORD: Final = 1 << 128
_OTHER_SPACE: Final = 1 << 129
_OTHER: Final = 0b111 << 128
"""Stand for every character beyond ASCII: those of words, spaces, and the rest."""


def _mask(characters: str) -> int:
    return sum(1 << ord(character) for character in characters)


_DIGITS: Final = _mask("0123456789")
_SPACES: Final = _mask(" \t\n\r\f\v\x1c\x1d\x1e\x1f")
_WORD: Final = _DIGITS | _mask("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_")
_CATEGORIES: Final = {
    "DIGIT": _DIGITS | _OTHER_WORD,
    "NOT_DIGIT": _ALL & ~_DIGITS,
    "SPACE": _SPACES | _OTHER_SPACE,
    "NOT_SPACE": _ALL & ~_SPACES & ~_OTHER_SPACE,
    "WORD": _WORD | _OTHER_WORD,
    "NOT_WORD": _ALL & ~_WORD & ~_OTHER_WORD,
}


class _Begin(NamedTuple):
    """How something can begin."""

    first: int
    """The characters."""
    nullable: bool
    """Whether it can also be nothing."""


def check_backtracking(pattern: str, length: int) -> None:
    """Refuse a pattern that could take long over a line of this length.

    Raises:
        ValueError: It could; the message says where it leaves a choice.
    """
    try:
        steps = _Walk(length).steps_of(import_module("re._parser").parse(pattern))
    except RecursionError:
        raise ValueError("`pattern` is nested too deeply") from None
    if steps > STEPS_MAX:
        raise ValueError(
            f"`pattern` may take {steps:.0e} steps over a line of {length} characters: it has several open parts, such "
            "as .*, that do not end where the next part begins; write [^,]*, instead, or lower `max_length`"
        )


class _Walk:
    """One look through a parsed pattern."""

    def __init__(self, length: int) -> None:
        self._length = length
        self._ways = 1
        self._open = 0

    def steps_of(self, parsed: Any) -> int:
        """How many steps a match can take: the open choices cut the line into parts, at any places."""
        items = list(parsed)
        if items and _takes_everything(*items[-1]):
            items.pop()  # it never fails, so that nothing before it is tried again
        self._sequence(items, 0, looping=False)
        return self._ways * comb(self._length, min(self._open, self._length // 2))

    def _ambiguous(self, ways: int | None, *, looping: bool) -> None:
        """A choice between so many ways; None: as many as the line has characters."""
        if looping:
            raise ValueError(
                "`pattern` repeats a part that can match the same characters in several ways, such as (a+)+: that may "
                "take for ever; let each turn begin with a character that the part before cannot match"
            )
        if ways is None:
            self._open += 1
        else:
            self._ways *= ways

    def _sequence(self, items: Any, follow: int, *, looping: bool) -> _Begin:
        """Look at everything in a sequence that these characters can follow; how it begins."""
        begin = _Begin(0, nullable=True)
        for item in reversed(list(items)):
            one = self._node(item, follow, looping=looping)
            follow = one.first | (follow if one.nullable else 0)
            begin = _Begin(one.first | (begin.first if one.nullable else 0), one.nullable and begin.nullable)
        return begin

    def _node(self, item: tuple[Any, Any], follow: int, *, looping: bool) -> _Begin:
        name, argument = str(item[0]), item[1]
        if name in {"MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"}:
            return self._repeat(name, argument, follow, looping=looping)
        if name == "BRANCH":
            return self._branch(argument[1], follow, looping=looping)
        if name in {"SUBPATTERN", "ATOMIC_GROUP"}:
            inner = argument[3] if name == "SUBPATTERN" else argument
            return self._sequence(inner, follow, looping=looping)
        if name in {"ASSERT", "ASSERT_NOT", "AT"}:
            if name != "AT":
                self._sequence(argument[1], _ALL, looping=looping)
            return _Begin(0, nullable=True)
        if name in {"LITERAL", "NOT_LITERAL", "ANY", "IN"}:
            return _Begin(_characters(name, argument), nullable=False)
        raise ValueError(f"`pattern` uses {name.lower().replace('_', ' ')}, which could take for ever")

    def _repeat(self, name: str, argument: Any, follow: int, *, looping: bool) -> _Begin:
        low, high, body = argument
        unbounded = str(high) == "MAXREPEAT"
        turns = unbounded or high > 1
        quiet = _Walk(self._length)
        first = quiet._sequence(body, 0, looping=False)
        if turns and first.nullable:
            self._ambiguous(2, looping=True)
        self._sequence(body, follow | (first.first if turns else 0), looping=looping or turns)
        if low != high and first.first & follow and name != "POSSESSIVE_REPEAT":
            self._ambiguous(None if unbounded else int(high) - int(low) + 1, looping=looping)
        return _Begin(first.first, nullable=low == 0 or first.nullable)

    def _branch(self, ways: list[Any], follow: int, *, looping: bool) -> _Begin:
        begins = [self._sequence(way, follow, looping=looping) for way in ways]
        seen, ambiguous = 0, False
        for begin in begins:
            characters = begin.first | (follow if begin.nullable else 0)
            ambiguous |= bool(seen & characters)
            seen |= characters
        if ambiguous:
            self._ambiguous(len(ways), looping=looping)
        first = 0
        for begin in begins:
            first |= begin.first
        return _Begin(first, nullable=any(begin.nullable for begin in begins))


def _takes_everything(operation: Any, argument: Any) -> bool:
    """Whether this is `.*`, to the end of a line."""
    if str(operation) != "MAX_REPEAT":
        return False
    low, high, body = argument
    return low == 0 and str(high) == "MAXREPEAT" and [str(item[0]) for item in body] == ["ANY"]


def _characters(name: str, argument: Any) -> int:
    """The characters that one place of a pattern takes, in either case."""
    if name == "ANY":
        return _ALL
    if name == "LITERAL":
        return _either_case(_one(argument))
    if name == "NOT_LITERAL":
        return _ALL & ~(_one(argument) & ~_OTHER)
    found = 0
    negated = False
    for operation, value in argument:
        kind = str(operation)
        if kind == "NEGATE":
            negated = True
        elif kind == "LITERAL":
            found |= _one(value)
        elif kind == "RANGE":
            low, high = value
            for code in range(low, min(high, 128) + 1):
                found |= _one(code)
            if high > 127:  # noqa: PLR2004 (the last of ASCII)
                found |= _OTHER
        else:
            found |= _CATEGORIES[str(value).removeprefix("CATEGORY_")]
    return (_ALL & ~(found & ~_OTHER)) | _OTHER if negated else _either_case(found)


def _one(code: int) -> int:
    if code < 128:  # noqa: PLR2004 (the first beyond ASCII)
        return 1 << code
    return _OTHER_SPACE if chr(code).isspace() else _OTHER & ~_OTHER_SPACE


def _either_case(characters: int) -> int:
    lower, upper = _mask("abcdefghijklmnopqrstuvwxyz"), _mask("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    # Under IGNORECASE, some letters beyond ASCII are those of it: the Kelvin sign is a k.
    other = _OTHER_WORD if characters & (lower | upper) else 0
    return characters | (characters & lower) >> 32 | (characters & upper) << 32 | other
