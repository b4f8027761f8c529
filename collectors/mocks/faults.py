"""What all mocks share: calls are counted, and failures can be injected."""

from collections import Counter, deque


class Faults:
    """Counts the calls of a mock and makes the ones that a test asked for fail."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        """How often each method was called, failed calls included."""
        self._faults: dict[str, deque[Exception]] = {}

    def fail(self, operation: str, error: Exception, *, times: int = 1) -> None:
        """Make the next calls of a method raise.

        Args:
            operation: The method's name.
            error: What it raises.
            times: How many calls fail.

        Raises:
            ValueError: The mock has no such method.
        """
        if not callable(getattr(self, operation, None)):
            raise ValueError(f"{type(self).__name__} has no method {operation!r}")
        self._faults.setdefault(operation, deque()).extend([error] * times)

    def _enter(self, operation: str) -> None:
        self.calls[operation] += 1
        faults = self._faults.get(operation)
        if faults:
            raise faults.popleft()
