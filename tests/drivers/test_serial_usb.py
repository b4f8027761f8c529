"""A USB adapter on the real kernel driver: unplugged, and found again under another name."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.rigs.usb_machine import UsbMachine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_an_adapter_that_comes_back_under_another_name_is_found_again(tmp_path: Path):
    async with UsbMachine(tmp_path) as machine:
        opened = await machine.event("open")
        assert opened == {
            "kind": "open",
            "port": "/dev/ttyUSB0",
            "dtr": False,
            "others": [],
            "counts": True,  # the UART counts its errors
        }
        await machine.send(b"first\n")
        assert (await machine.event("frame"))["raw"] == "first"
        await machine.unplug()
        failed = await machine.event("failed")
        assert failed["trouble"] == "lost"
        assert "USB 0403:6001 serial A1: connection lost" in failed["why"]
        assert "not plugged in: there is no USB serial port at all" in (await machine.event("failed"))["why"]
        # Another adapter of the same kind takes the name.
        await machine.plug_another()
        why = (await machine.event("failed"))["why"]
        assert "not plugged in: there are /dev/ttyUSB0 (0403:6001 serial B2" in why
        await machine.plug()
        assert (await machine.event("open"))["port"] == "/dev/ttyUSB1"
        await machine.send(b"second\n")
        assert (await machine.event("frame"))["raw"] == "second"
