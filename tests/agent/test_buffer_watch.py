import logging
from collections import Counter

import pytest

from agent.buffer_watch import BufferWatch
from agent.spine.spine import open_spine
from collectors.enums import ErrorType
from collectors.interfaces import IErrorHandler
from collectors.models import ErrorInfo


class Buffer:
    fault: str | None = None

    def __init__(self) -> None:
        self.lost_by_reason: Counter[str] = Counter()

    def lost(self) -> Counter[str]:
        return +self.lost_by_reason


class Heard(IErrorHandler):
    def __init__(self) -> None:
        self.messages: list[str] = []

    async def handle_error(self, error: ErrorInfo) -> None:
        self.messages.append(error.message)

    def can_handle(self, error_type: ErrorType) -> bool:
        return True


async def test_a_disk_that_refuses_is_told_once_and_so_is_its_return(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_spine() as spine:
        buffer, heard = Buffer(), Heard()
        spine.errors.add_handler(heard)
        watch = BufferWatch(buffer, buffer, "/card/buffer", spine)
        await watch.look()
        assert heard.messages == []
        for fault in (
            "[Errno 28] No space left on device",
            "no new file: [Errno 28] No space left on device",
        ):
            buffer.fault = fault
            await watch.look()
        (message,) = heard.messages
        assert "No space left on device" in message
        assert "see to the disk that holds /card/buffer" in message
        buffer.fault = None
        with caplog.at_level(logging.INFO):
            await watch.look()
            await watch.look()
        assert caplog.text.count("takes readings again") == 1


async def test_losses_are_told_by_reason_and_a_loss_that_goes_on_is_no_flood() -> None:
    async with open_spine() as spine:
        buffer, heard = Buffer(), Heard()
        spine.errors.add_handler(heard)
        buffer.lost_by_reason.update({"damaged": 399, "never issued": 0, "quota": 1})
        watch = BufferWatch(buffer, buffer, "/card/buffer", spine)
        await watch.look()
        assert len(heard.messages) == 2
        assert heard.messages[0].startswith("399 records of /card/buffer are lost, 399 in all: damaged")
        for count in range(2, 50):
            buffer.lost_by_reason["quota"] = count
            await watch.look()
        assert len(heard.messages) == 2


async def test_scarce_room_is_told_once_until_there_is_room_again() -> None:
    async with open_spine() as spine:
        buffer, heard = Buffer(), Heard()
        spine.errors.add_handler(heard)
        left: list[float | None] = [None]
        watch = BufferWatch(buffer, buffer, "/card/buffer", spine, left_s=lambda: left[0], warn_below_s=86400)
        for lasts_s, told in (
            (None, 0),
            (90_000, 0),
            (80_000, 1),
            (90_000, 1),
            (100, 1),
            (200_000, 1),
            (7300, 2),
        ):
            left[0] = lasts_s
            watch._room_due_s = 0.0
            await watch.look()
            assert len(heard.messages) == told
        assert heard.messages[-1] == (
            "the room in /card/buffer lasts for 2 h more at this rate, if nothing is delivered"
        )
