"""What Bluetooth costs in memory.

    python -m benchmarks.ble_memory

The agent on a bluetoothd of our own (the tests' fake, on a real dbus-daemon), with an MQTT upstream to a real Mosquitto: without
Bluetooth; with a sensor that is connected to and notifies (GATT); and with that one and ten BTHome sensors, of which
five encrypt. After 20 s at about 30 readings/s: resident memory. The last must be 70 MB at most, else the exit status is 1.
Takes about 80 s.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from agent.status.socket import AgentNotRunningError, ask_status
from benchmarks.machine import machine
from benchmarks.processes import Memory, Program, memory
from tests.rigs.ble.fake_bluez import FakeBluez
from tests.rigs.ble.world import (
    BTHOME,
    ENVIRONMENTAL_SENSING,
    TEMPERATURE,
    Advertisement,
    Characteristic,
    bthome,
    centidegrees,
)
from tests.rigs.mosquitto import Mosquitto

if TYPE_CHECKING:
    from tests.rigs.ble.fake_sensor import FakeSensor

_LIMIT_MB = 70.0
_RUN_S = 20.0
_MEASURE_S = 0.5
_NOTIFY_S = 0.1
_KEY = bytes.fromhex("231d39c1d7cc1ab1aee224cd096db932")
_LINKED = "C4:4F:33:00:01:00"
_SENSORS = [f"C4:4F:33:00:00:{number:02X}" for number in range(10)]

_DEVICE = """\
[device]
id = "benchmark"

[buffer]
path = "buffer"

[[upstream]]
driver = "mqtt"
url = "{url}"
ack = "broker"

"""
_SIMULATED = """\
[[source]]
id = "simulated"
driver = "simulated"
rate = 30
signals = [{ name = "temperature", kind = "sine", mean = 21, amplitude = 3 }]

"""
_GATT = f"""\
[[source]]
id = "linked"
driver = "gatt"
address = "{_LINKED}"
codec = "gatt"
notify = ["temperature"]

"""


def _bthome_source(number: int) -> str:
    codec = '"bthome"' if number % 2 else '{ type = "bthome", key = { file = "key" } }'
    return f'[[source]]\nid = "heard-{number}"\ndriver = "ble"\naddress = "{_SENSORS[number]}"\ncodec = {codec}\n\n'


def _encrypted(address: str, counter: int, value: int) -> bytes:
    """BTHome v2 service data, encrypted: info byte, ciphertext, counter, check value (bthome.io/encryption)."""
    tail = counter.to_bytes(4, "little")
    nonce = bytes.fromhex(address.replace(":", "")) + b"\xd2\xfc\x41" + tail
    sealed = AESCCM(_KEY, tag_length=4).encrypt(nonce, bthome(0, value)[3:], None)
    return b"\x41" + sealed[:-4] + tail + sealed[-4:]


async def _measure(sensor: FakeSensor, number: int) -> None:
    for turn in count():
        value = 2000 + turn % 500
        data = bthome(turn, value) if number % 2 else _encrypted(sensor.address, turn, value)
        await sensor.advertise(Advertisement(service_data={BTHOME: data}))
        await asyncio.sleep(_MEASURE_S)


async def _notify(sensor: FakeSensor) -> None:
    for turn in count():
        await sensor.notify(TEMPERATURE, centidegrees(turn % 5000))
        await asyncio.sleep(_NOTIFY_S)


async def _frames(socket: Path) -> int:
    try:
        report = await ask_status(socket)
    except AgentNotRunningError:
        return 0
    assert all(source.condition in {"ok", "connecting"} for source in report.sources), report.summary()
    return sum(source.frames for source in report.sources)


async def _run(sources: str, url: str) -> tuple[Memory, int]:
    """Memory and frames of an agent with these sources, after a while."""
    with tempfile.TemporaryDirectory(prefix="outstation-benchmark-") as name:
        folder = Path(name)
        (folder / "agent.toml").write_text(_DEVICE.format(url=url) + sources)
        (folder / "key").write_text(_KEY.hex())
        arguments = ["-m", "agent", "run", "--config", str(folder / "agent.toml")]
        with Program(arguments, folder / "agent.log") as agent:
            await asyncio.sleep(_RUN_S)
            frames = await _frames(folder / "buffer" / "agent.sock")
            return memory(agent.process.pid), frames


async def _main() -> bool:
    print(machine())
    with Mosquitto() as broker:
        async with FakeBluez() as bluez:
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = bluez.bus_address
            gatt = {ENVIRONMENTAL_SENSING: [Characteristic(TEMPERATURE, centidegrees(2150))]}
            linked = await bluez.sensor(_LINKED, gatt)
            await linked.advertise(Advertisement(services=[ENVIRONMENTAL_SENSING]))
            bluez.run(_notify(linked), "notify")
            for number, address in enumerate(_SENSORS):
                bluez.run(_measure(await bluez.sensor(address), number), f"measure:{address}")
            heard = "".join(map(_bthome_source, range(len(_SENSORS))))
            last = 0.0
            for what, sources in (
                ("without Bluetooth", _SIMULATED),
                ("a GATT sensor", _GATT),
                ("a GATT sensor and ten BTHome sensors", _GATT + heard),
            ):
                used, frames = await _run(sources, broker.url)
                last = used.resident
                print(
                    f"{what:<38} {used.resident:5.1f} MB resident ({used.anonymous:.1f} anonymous, "
                    f"peak {used.peak:.1f}), {frames} frames in {_RUN_S:.0f} s"
                )
    print(f"at most {_LIMIT_MB:.0f} MB: {'kept' if last <= _LIMIT_MB else 'BROKEN'}")
    return last <= _LIMIT_MB


if __name__ == "__main__":
    sys.exit(0 if asyncio.run(_main()) else 1)
