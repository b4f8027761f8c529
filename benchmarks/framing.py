"""How many megabytes a second each framing and codec takes, and what a port at 921,600 baud costs.

Framings are fed what they are made for, in pieces of 4 KiB as the driver does it, and random bytes. Codecs get one frame
again and again. The port is a pseudo-terminal that another process writes to at 92,160 bytes/s.

    python -m benchmarks.framing [--profile FRAMING]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import pty
import random
import subprocess
import sys
import time
import tty
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from benchmarks.machine import machine
from collectors.clock import SystemClock
from drivers.codecs import CODECS
from drivers.framing import FRAMINGS
from drivers.serial.config import SerialConfig
from drivers.serial.source import SerialSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from drivers.framing import FramingConfig

STREAM_BYTES = 10_000_000
PIECE_BYTES = 4096
ROUNDS = 3
LINE = b'{"seq":12345,"ms":123456789,"t":21.5}'
"""37 bytes, as our firmware sends them."""

FRAMING_CASES: dict[str, Any] = {
    "lines": "lines",
    "cobs, crc16": "cobs",
    "cobs, crc32": {"type": "cobs", "crc": "crc32"},
    "slip": "slip",
    "slip, crc16": {"type": "slip", "crc": "crc16"},
    "delimited": {"type": "delimited", "start": "<", "end": ">"},
    "length_prefixed, sync, crc16": {"type": "length_prefixed", "sync": [0xAA, 0x55], "crc": "crc16"},
    "fixed, sync, crc16": {"type": "fixed", "length": 37, "sync": [0xAA, 0x55], "crc": "crc16"},
}
CODEC_CASES: dict[str, tuple[Any, bytes]] = {
    "json": ("json", LINE),
    "csv": ({"type": "csv", "columns": ["seq", "ms", "t"]}, b"12345,123456789,21.5"),
    "key_value": ("key_value", b"seq=12345 ms=123456789 t=21.5"),
    "regex": (
        {"type": "regex", "pattern": r"(?P<seq>\d+) (?P<ms>\d+) (?P<t>-?\d+\.\d)"},
        b"12345 123456789 21.5",
    ),
    "nmea": ("nmea", b"$GPGGA,184353.07,1929.045,S,02410.506,E,1,04,2.6,100.00,M,-33.9,M,,0000*6D"),
    "struct": (
        {
            "type": "struct",
            "byteorder": "little",
            "layout": [
                {
                    "prefix": "D",
                    "fields": [
                        {"name": "seq", "type": "u32"},
                        {"name": "ms", "type": "u32"},
                        {"name": "t", "type": "i16", "scale": 0.1},
                    ],
                }
            ],
        },
        b"D\x39\x30\x00\x00\x15\xcd\x5b\x07\xd7\x00",
    ),
}


def fed(framing: FramingConfig, stream: bytes) -> float:
    """CPU seconds to take a stream."""
    framer = framing.framer()
    begun_s = time.process_time()
    for at in range(0, len(stream), PIECE_BYTES):
        framer.feed(stream[at : at + PIECE_BYTES])
    return time.process_time() - begun_s


def rate(framing: FramingConfig, stream: bytes) -> str:
    return f"{len(stream) / best(lambda: fed(framing, stream)) / 1e6:.1f} MB/s"


def best(measure: Callable[[], float]) -> float:
    return min(measure() for _ in range(ROUNDS))


def framings() -> None:
    rng = random.Random(1)
    noise = rng.randbytes(STREAM_BYTES)
    binary = rng.randbytes(12)
    print(f"{'framing':<30} {'37-byte lines':>14} {'12-byte binary':>15} {'noise':>12}")
    for name, options in FRAMING_CASES.items():
        framing = FRAMINGS.choose(options)
        row = []
        for payload in (LINE, binary):
            try:
                frame = framing.encode(payload)
            except ValueError:  # another length, or bytes that a text cannot hold
                row.append("-")
                continue
            row.append(rate(framing, frame * (STREAM_BYTES // len(frame))))
        row.append(rate(framing, noise))
        print(f"{name:<30} {row[0]:>14} {row[1]:>15} {row[2]:>12}")


def codecs() -> None:
    print(f"\n{'codec':<30} {'one frame':>14}")
    for name, (options, frame) in CODEC_CASES.items():
        decode = CODECS.choose(options).codec()
        count = 20_000

        def measure(decode: Any = decode, frame: bytes = frame, count: int = count) -> float:
            begun_s = time.process_time()
            for _ in range(count):
                decode(frame)
            return time.process_time() - begun_s

        print(f"{name:<30} {best(measure) / count * 1e6:>11.1f} us")


SENDER = """
import os, sys, time
os.read(0, 1)
frame, count, rate = {frame!r}, {count}, {rate}
begun = time.monotonic()
sent = 0
while sent < count:
    due = int((time.monotonic() - begun) * rate / len(frame)) + 1
    while sent < min(due, count):
        os.write(1, frame)
        sent += 1
    time.sleep(0.002)
"""
BAUD_BYTES, PORT_S = 92_160, 8.0


def port(framing: str) -> None:
    """A whole serial source at 921,600 baud: CPU of one core, and what arrived."""
    frame = FRAMINGS.choose(framing).encode(LINE)
    count = int(BAUD_BYTES * PORT_S / len(frame))
    controller, terminal = pty.openpty()
    tty.setraw(terminal)
    config = SerialConfig(port=os.ttyname(terminal), framing=FRAMINGS.choose(framing))
    code = SENDER.format(frame=frame, count=count, rate=BAUD_BYTES)

    ready, go = os.pipe()
    sender = subprocess.Popen([sys.executable, "-c", code], stdin=ready, stdout=controller)

    async def collect() -> tuple[float, float, int]:
        source = SerialSource("s", config, data_format="json", clock=SystemClock())
        await source.connect()
        os.write(go, b"g")
        with sender:
            taken = 0
            async with aclosing(source.collect_stream()) as stream:
                async for _ in stream:
                    if not taken:
                        begun_s, begun_cpu_s = time.monotonic(), time.process_time()
                    taken += 1
                    if taken == count:
                        break
            took_s, cpu_s = time.monotonic() - begun_s, time.process_time() - begun_cpu_s
        floods = dict(source.troubles)
        await source.disconnect()
        assert not floods, floods
        return took_s, cpu_s, taken

    took_s, cpu_s, taken = asyncio.run(collect())
    for descriptor in (controller, terminal, ready, go):
        os.close(descriptor)
    print(
        f"{framing:<30} {taken} frames of {len(frame)} bytes in {took_s:.1f} s:"
        f" {taken / took_s:.0f}/s, {100 * cpu_s / took_s:.1f} % of a core, {cpu_s / taken * 1e6:.1f} us a frame"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", choices=FRAMING_CASES, help="show where the time goes instead")
    arguments = parser.parse_args()
    if arguments.profile:
        framing = FRAMINGS.choose(FRAMING_CASES[arguments.profile])
        frame = framing.encode(LINE)
        profile = cProfile.Profile()
        profile.runcall(fed, framing, frame * (STREAM_BYTES // len(frame)))
        pstats.Stats(profile).sort_stats("tottime").print_stats(8)
        return
    print(machine())
    framings()
    codecs()
    print("\n921,600 baud from a pseudo-terminal, to CollectedData")
    for framing in ("lines", "cobs"):
        port(framing)


if __name__ == "__main__":
    main()
