"""The error flow: every error of every layer becomes an `ErrorInfo` and reaches whoever handles it.

An error is caught at the boundary of a layer, classified, passed to every handler that takes its type
(one that raises or hangs does not keep it from the others), and told as an ERROR_OCCURRED event.
"""

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from agent.spine.events import EventEmitter
from collectors.clock import Clock
from collectors.enums import ErrorType, EventType
from collectors.interfaces import IErrorHandler
from collectors.models import ErrorInfo, SystemEvent

_log = logging.getLogger(__name__)

COLLECTION: Final = "collection"
PROCESSING: Final = "processing"
STORAGE: Final = "storage"
SYNC: Final = "sync"
CONFIGURATION: Final = "configuration"

_BY_LAYER = {
    COLLECTION: ErrorType.CONNECTION,
    PROCESSING: ErrorType.PROCESSING,
    STORAGE: ErrorType.STORAGE,
    SYNC: ErrorType.CONNECTION,
    CONFIGURATION: ErrorType.CONFIGURATION,
}


def innermost(error: BaseException) -> BaseException:
    """The first real error in nested groups: a group says only how many there are."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def classify(error: BaseException, layer: str) -> ErrorType:
    """The category of an error: by what it is, and where that says nothing, by the layer it is from."""
    error = innermost(error)
    if layer == CONFIGURATION:
        return ErrorType.CONFIGURATION
    if isinstance(error, ConnectionError):
        return ErrorType.CONNECTION
    if isinstance(error, TimeoutError) and layer != STORAGE:
        return ErrorType.CONNECTION
    if isinstance(error, ValueError):
        return ErrorType.VALIDATION
    return _BY_LAYER.get(layer, ErrorType.PROCESSING)


def describe(error: BaseException) -> str:
    """What went wrong, in words: never empty."""
    error = innermost(error)
    return str(error).strip() or type(error).__name__


class ErrorFlow:
    """Where every layer reports its errors.

    Args:
        clock: Stamps the errors.
        events: Where ERROR_OCCURRED goes.
        handler_timeout_s: A handler that takes longer is left behind, and that is logged.
    """

    def __init__(self, clock: Clock, events: EventEmitter, *, handler_timeout_s: float = 5.0) -> None:
        self._clock = clock
        self._events = events
        self._handler_timeout_s = handler_timeout_s
        self._handlers: list[IErrorHandler] = []
        self.reported = 0
        """How many errors there were."""

    def add_handler(self, handler: IErrorHandler) -> None:
        """Register a handler.

        Raises:
            ValueError: It does not fulfil IErrorHandler, or is registered already.
        """
        if not isinstance(handler, IErrorHandler):
            raise ValueError(f"{type(handler).__name__} does not fulfil IErrorHandler")
        if handler in self._handlers:
            raise ValueError("this handler is registered already")
        self._handlers.append(handler)

    async def report(
        self,
        error: Exception | ErrorInfo,
        *,
        layer: str,
        operation: str,
        error_type: ErrorType | None = None,
        critical: bool = False,
        **details: Any,
    ) -> ErrorInfo:
        """Take an error through the flow; returns what became of it. Never raises for a handler.

        Args:
            error: What was caught. An ErrorInfo is taken as it is.
            layer: Where: collection, processing, storage, sync, configuration.
            operation: Doing what.
            error_type: Its category, where the caller knows better than `classify`.
            critical: Whether the program cannot do its work because of it.
            details: Whatever helps to understand it.
        """
        if isinstance(error, ErrorInfo):
            info = error
        else:
            info = ErrorInfo(
                error_type=error_type or classify(error, layer),
                timestamp=self._clock.now(),
                layer_name=layer,
                operation=operation,
                message=describe(error),
                details={"exception": type(innermost(error)).__name__, **details},
                is_critical=critical,
            )
        self.reported += 1
        for handler in tuple(self._handlers):
            await self._handle(handler, info)
        if self._events.has_subscribers(EventType.ERROR_OCCURRED):
            self._events.publish(
                SystemEvent(
                    event_type=EventType.ERROR_OCCURRED,
                    timestamp=info.timestamp,
                    source=info.layer_name,
                    data={"error": info.message, "info": info},
                )
            )
        return info

    async def _handle(self, handler: IErrorHandler, info: ErrorInfo) -> None:
        try:
            if handler.can_handle(info.error_type):
                async with asyncio.timeout(self._handler_timeout_s):
                    await handler.handle_error(info)
        except Exception:  # noqa: BLE001 (logged with the error that it should have handled)
            _log.exception(
                "error handler %s failed on: %s.%s: %s",
                type(handler).__name__,
                info.layer_name,
                info.operation,
                info.message,
            )


_SUBJECTS: Final = ("source_id", "backend_id", "upstream", "subject")
"""The details that say what an error is about."""


@dataclass(slots=True)
class _Place:
    """What was written of one operation on one subject since a moment."""

    since: float
    written: int = 0
    unwritten: int = 0


class LogErrorHandler(IErrorHandler):
    """Writes errors to the log; one that repeats is written once a while, with the number of repetitions.

    So are errors that differ each time, such as those of a line of noise, beyond a few of one place: a broken
    sensor must not wear out the card that the log is written to.

    Args:
        clock: Measures the while.
        repeat_s: How long an error that was just written is only counted.
        known_max: How many different errors are remembered.
        different_max: How many different errors of one operation on one subject are written in that while.
    """

    def __init__(
        self, clock: Clock, *, repeat_s: float = 60.0, known_max: int = 256, different_max: int = 10
    ) -> None:
        self._clock = clock
        self._repeat_s = repeat_s
        self._known_max = known_max
        self._different_max = different_max
        self._places: OrderedDict[tuple[object, ...], _Place] = OrderedDict()
        self._known: OrderedDict[tuple[object, ...], list[float]] = OrderedDict()

    def can_handle(self, error_type: ErrorType) -> bool:
        """Every type."""
        return error_type in ErrorType

    async def handle_error(self, error: ErrorInfo) -> None:
        """Write the error, unless the same one was written a moment ago."""
        details = error.details
        subject = next((details[name] for name in _SUBJECTS if details.get(name)), "")
        now = self._clock.monotonic_s()
        place = self._place((error.layer_name, error.operation, subject), now)
        key = (error.layer_name, error.operation, error.message, subject)
        known = self._known.get(key)
        if known is not None and now - known[0] < self._repeat_s:
            known[1] += 1
            return
        if place.written >= self._different_max:
            place.unwritten += 1
            return
        place.written += 1
        repeated = int(known[1]) if known else 0
        self._known[key] = [now, 0]
        self._known.move_to_end(key)
        while len(self._known) > self._known_max:
            self._known.popitem(last=False)
        notes = f" (and {repeated} times before)" if repeated else ""
        if place.unwritten:
            notes += f" (and {place.unwritten} others before, not written)"
            place.unwritten = 0
        if place.written == self._different_max:
            notes += f" (others are only counted for {self._repeat_s:.0f} s)"
        level = logging.ERROR if error.is_critical else logging.WARNING
        _log.log(
            level,
            "%s: %s%s: %s%s",
            error.layer_name,
            error.operation,
            f" {subject}" if subject else "",
            error.message,
            notes,
        )

    def _place(self, key: tuple[object, ...], now: float) -> _Place:
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = _Place(now)
            if len(self._places) > self._known_max:
                self._places.popitem(last=False)
        elif now - place.since >= self._repeat_s:
            place.since, place.written = now, 0
        return place
