"""Runs in the virtual machine: reads the adapter as the agent does, and tells what happens, a JSON object a line."""

from __future__ import annotations

import asyncio
import json
import sys

from collectors.clock import SystemClock
from drivers.serial.config import SerialConfig
from drivers.serial.diagnosis import line_errors
from drivers.serial.source import SerialSource
from drivers.serial.trouble import PortError
from drivers.serial.usb import UsbConfig
from tests.rigs.usb_machine import PRODUCT, SERIAL, VENDOR

RETRY_S = 0.2


def tell(kind: str, **what: object) -> None:
    sys.stdout.write(json.dumps({"kind": kind, **what}) + "\n")
    sys.stdout.flush()


async def read() -> None:
    usb = UsbConfig(vendor=VENDOR, product=PRODUCT, serial=SERIAL)
    source = SerialSource("s", SerialConfig(usb=usb, dtr=False), data_format="json", clock=SystemClock())
    told = ""
    while True:
        try:
            await source.connect()
            port = source._observer._port
            assert port is not None
            counted = line_errors(port.fileno())
            tell("open", port=port.port, dtr=port.dtr, others=list(port.others), counts=counted is not None)
            async for data in source.collect_stream():
                tell("frame", raw=data.raw_data.decode())
        except PortError as error:
            if str(error) != told:
                told = str(error)
                tell("failed", trouble=error.kind, why=told)
        await source.disconnect()
        await asyncio.sleep(RETRY_S)


if __name__ == "__main__":
    try:
        asyncio.run(read())
    except BaseException as error:
        tell("crashed", why=repr(error))
        raise
