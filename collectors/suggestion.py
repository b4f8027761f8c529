"""Which name was probably meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def nearest(given: str, known: Iterable[str]) -> str | None:
    """The known name that is most like the given one, None when none is."""
    from difflib import get_close_matches  # only what is wrong needs it

    close = get_close_matches(given, sorted(known), n=1)
    return close[0] if close else None
