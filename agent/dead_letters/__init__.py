"""Dead letters: what could not be decoded, processed or delivered. Kept, looked at, and taken again after a fix."""

from agent.dead_letters.letter import (
    FRAMING,
    TABLE,
    UPSTREAM,
    Letter,
    UnreadableLetterError,
    dead_letter,
    unprocessed,
)
from agent.dead_letters.selection import Handled, Order, Selection

__all__ = [
    "FRAMING",
    "TABLE",
    "UPSTREAM",
    "Handled",
    "Letter",
    "Order",
    "Selection",
    "UnreadableLetterError",
    "dead_letter",
    "unprocessed",
]
