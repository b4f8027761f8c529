"""A sum that does not depend on the order of what is added.

J. R. Shewchuk, "Adaptive precision floating-point arithmetic and fast robust geometric predicates", Discrete &
Computational Geometry 18, 1997: the sum is kept as a few numbers that do not overlap, whose exact sum it is.
"""

import math
from collections.abc import Iterable


class ExactSum:
    """Adds floats; `total` is the exact sum, rounded once.

    Args:
        parts: What `parts` was of a sum that goes on.
    """

    def __init__(self, parts: Iterable[float] = ()) -> None:
        self.parts = list(parts)

    def add(self, value: float) -> None:
        """Add a finite number."""
        kept = 0
        for part in self.parts:
            high, low = (value, part) if abs(value) >= abs(part) else (part, value)
            value = high + low
            error = low - (value - high)
            if error:
                self.parts[kept] = error
                kept += 1
        self.parts[kept:] = [value]

    @property
    def total(self) -> float:
        """The sum; infinite when it is too large for a float."""
        if not all(map(math.isfinite, self.parts)):
            return math.inf
        return math.fsum(self.parts)
