import asyncio
import logging
from datetime import UTC, datetime

import pytest

from agent.spine import LogErrorHandler, classify, open_spine
from agent.spine.errors import COLLECTION, CONFIGURATION, PROCESSING, STORAGE, SYNC
from collectors import CollectedData, ErrorInfo, ErrorType, SystemClock
from collectors.mocks import MockErrorHandler


class SteppingClock(SystemClock):
    """A clock that only moves when it is told to."""

    seconds = 0.0

    def monotonic_s(self):
        return self.seconds


def refused_model():
    try:
        CollectedData()
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    ("error", "layer", "expected"),
    [
        (ConnectionRefusedError(), COLLECTION, ErrorType.CONNECTION),
        (ConnectionError(), STORAGE, ErrorType.CONNECTION),
        (TimeoutError(), SYNC, ErrorType.CONNECTION),
        (TimeoutError(), STORAGE, ErrorType.STORAGE),
        (OSError(28, "no space"), STORAGE, ErrorType.STORAGE),
        (OSError(5, "i/o error"), COLLECTION, ErrorType.CONNECTION),
        (ValueError(), COLLECTION, ErrorType.VALIDATION),
        (refused_model(), PROCESSING, ErrorType.VALIDATION),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), PROCESSING, ErrorType.VALIDATION),
        (ZeroDivisionError(), PROCESSING, ErrorType.PROCESSING),
        (RuntimeError(), STORAGE, ErrorType.STORAGE),
        (ValueError(), CONFIGURATION, ErrorType.CONFIGURATION),
        (RuntimeError(), "a layer of one's own", ErrorType.PROCESSING),
    ],
)
def test_categories(error, layer, expected):
    assert classify(error, layer) is expected


async def test_an_error_in_groups_is_told_as_itself():
    group = ExceptionGroup("unhandled errors", [ExceptionGroup("again", [ConnectionError("cut"), OSError()])])
    async with open_spine() as spine:
        info = await spine.errors.report(group, layer=PROCESSING, operation="x")
    assert (info.error_type, info.message) == (ErrorType.CONNECTION, "cut")
    assert info.details["exception"] == "ConnectionError"


async def test_whoever_knows_better_says_so():
    async with open_spine() as spine:
        info = await spine.errors.report(
            ValueError("no such port"),
            layer=COLLECTION,
            operation="connect",
            error_type=ErrorType.CONFIGURATION,
            source_id="soil",
        )
        assert info.error_type is ErrorType.CONFIGURATION
        assert info.details == {"exception": "ValueError", "source_id": "soil"}
        assert spine.errors.reported == 1


async def test_error_info_is_taken_as_it_is():
    async with open_spine() as spine:
        handler = MockErrorHandler()
        spine.errors.add_handler(handler)
        info = ErrorInfo(
            error_type=ErrorType.STORAGE,
            timestamp=datetime.now(UTC),
            layer_name="storage",
            operation="commit",
            message="the disk is full",
        )
        assert await spine.errors.report(info, layer="other", operation="other") is info
        assert handler.errors == [info]


async def test_hanging_handler_is_left_behind(caplog):
    class Hanging(MockErrorHandler):
        async def handle_error(self, error):
            await asyncio.Event().wait()

    async with open_spine() as spine:
        spine.errors._handler_timeout_s = 0.01
        witness = MockErrorHandler()
        spine.errors.add_handler(Hanging())
        spine.errors.add_handler(witness)
        await asyncio.wait_for(spine.errors.report(ValueError("x"), layer=SYNC, operation="send"), 1)
        assert len(witness.errors) == 1
        assert "Hanging failed on: sync.send: x" in caplog.text


async def test_cancellation_is_not_an_error():
    class Hanging(MockErrorHandler):
        async def handle_error(self, error):
            await asyncio.Event().wait()

    async with open_spine() as spine:
        spine.errors.add_handler(Hanging())
        reporting = asyncio.create_task(spine.errors.report(ValueError(), layer=SYNC, operation="send"))
        await asyncio.sleep(0)
        reporting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reporting


async def test_handlers_are_registered_once():
    async with open_spine() as spine:
        handler = MockErrorHandler()
        spine.errors.add_handler(handler)
        for wrong in (handler, None, print):
            with pytest.raises(ValueError):
                spine.errors.add_handler(wrong)


def info(message, **details):
    return ErrorInfo(
        error_type=ErrorType.CONNECTION,
        timestamp=datetime.now(UTC),
        layer_name="collection",
        operation="connect",
        message=message,
        details=details,
    )


async def test_repeated_error_is_written_once_a_while(caplog):
    clock = SteppingClock()
    handler = LogErrorHandler(clock, repeat_s=60)
    for _ in range(5):
        await handler.handle_error(info("no such port", source_id="soil"))
    await handler.handle_error(info("no such port", source_id="hall"))
    assert caplog.messages == [
        "collection: connect soil: no such port",
        "collection: connect hall: no such port",
    ]
    clock.seconds = 61
    await handler.handle_error(info("no such port", source_id="soil"))
    assert caplog.messages[2] == "collection: connect soil: no such port (and 4 times before)"


@pytest.mark.parametrize("detail", ["source_id", "backend_id", "upstream", "subject"])
async def test_the_same_error_of_two_subjects_is_written_for_each(caplog, detail):
    handler = LogErrorHandler(SteppingClock())
    for subject in ("one", "other", "one"):
        await handler.handle_error(info("no answer", **{detail: subject}))
    assert caplog.messages == ["collection: connect one: no answer", "collection: connect other: no answer"]


async def test_errors_that_differ_each_time_are_no_flood(caplog):
    clock = SteppingClock()
    handler = LogErrorHandler(clock, repeat_s=60, different_max=3)
    for number in range(1000):
        await handler.handle_error(info(f"noise {number}", source_id="soil"))
    await handler.handle_error(info("no such port", source_id="hall"))
    assert caplog.messages == [
        "collection: connect soil: noise 0",
        "collection: connect soil: noise 1",
        "collection: connect soil: noise 2 (others are only counted for 60 s)",
        "collection: connect hall: no such port",
    ]
    clock.seconds = 61
    await handler.handle_error(info("noise again", source_id="soil"))
    assert caplog.messages[4] == "collection: connect soil: noise again (and 997 others before, not written)"


async def test_log_handler_remembers_a_bounded_number():
    handler = LogErrorHandler(SteppingClock(), known_max=10, different_max=100)
    for number in range(100):
        await handler.handle_error(info(f"error {number}"))
    assert len(handler._known) == 10


async def test_critical_errors_are_written_as_errors(caplog):
    handler = LogErrorHandler(SystemClock())
    await handler.handle_error(info("a").model_copy(update={"is_critical": True}))
    await handler.handle_error(info("b"))
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
