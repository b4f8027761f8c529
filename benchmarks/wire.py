"""Bytes and CPU time a reading on the wire, by format and batch size.

    python -m benchmarks.wire

Readings are of five noisy series, as a BME280 with an air quality sensor gives them: one reading has five values.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from typing import Any

from agent.sync.formats import FormatName, create_format
from agent.sync.packing import GZIP_READINGS_MIN, Packer
from benchmarks.machine import machine

_SIZES = (1, 10, 100, 1000)
_FORMATS: tuple[FormatName, ...] = ("senml", "influx", "thingsboard")
_SERIES = (
    ("temperature", "Cel", 21.0, 0.05, 2),
    ("humidity", "%RH", 48.0, 0.2, 1),
    ("pressure", "hPa", 1013.0, 0.1, 1),
    ("gas", "Ohm", 51000.0, 90.0, 0),
    ("light", "lx", 320.0, 4.0, 0),
)


@dataclass(frozen=True)
class Record:
    """One stored reading."""

    seq: int
    document: dict[str, Any]


def records(count: int) -> list[Record]:
    """One reading a second; each series wanders."""
    noise = random.Random(1)
    now = {name: level for name, _, level, _, _ in _SERIES}
    made = []
    for seq in range(1, count + 1):
        for name, _, _, step, _ in _SERIES:
            now[name] += noise.gauss(0, step)
        values = {name: round(now[name], digits) for name, _, _, _, digits in _SERIES}
        made.append(
            Record(
                seq,
                {
                    "source": "air",
                    "t": 1790000000.0 + seq + round(noise.uniform(0, 0.01), 6),
                    "values": values,
                    "units": {name: unit for name, unit, _, _, _ in _SERIES},
                },
            )
        )
    return made


def main() -> None:
    print(machine())
    print("bytes a reading of five values, plain / gzip; CPU time of making it, gzip included, at a hundred")
    print(f"{'format':12}" + "".join(f"{f'n={size}':>18}" for size in _SIZES) + f"{'CPU':>12}")
    lot = records(max(_SIZES))
    for name in _FORMATS:
        cells = []
        for size in _SIZES:
            sizes = []
            for gzip in (False, True):
                made = create_format(name)
                pack = Packer(1 << 30, made.encode, made.content_type, gzip).pack(
                    "greenhouse-3", "5a" * 16, lot[:size]
                )
                sizes.append(len(pack.payload) / size)
            cells.append(f"{sizes[0]:.1f}" + (f" / {sizes[1]:.1f}" if size >= GZIP_READINGS_MIN else ""))
        made = create_format(name)
        packer = Packer(1 << 30, made.encode, made.content_type)
        begun = time.process_time()
        for _ in range(100):
            packer.pack("greenhouse-3", "5a" * 16, lot[:100])
        cpu_us = (time.process_time() - begun) / 10_000 * 1e6
        print(f"{name:12}" + "".join(f"{cell:>18}" for cell in cells) + f"{cpu_us:>9.1f} us")


if __name__ == "__main__":
    main()
