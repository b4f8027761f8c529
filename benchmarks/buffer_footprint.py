"""What it costs to have the buffer at all: memory and time of importing it and of opening an empty one."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.buffer_workload import folder, median
from benchmarks.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

_REPEATS = 9
_TELL = """
import json, re, time
begun = time.perf_counter()
{code}
took = time.perf_counter() - begun
status = open("/proc/self/status").read()
print(json.dumps([took * 1000, int(re.search(r"VmRSS:\\s*(\\d+)", status)[1]) * 1024 / 1e6]))
"""


def _cost(code: str, repeats: int) -> tuple[float, float]:
    """Milliseconds and MB, of a process that runs some code."""
    found = []
    for _ in range(repeats + 1):
        command = [sys.executable, "-c", _TELL.format(code=code)]
        answer = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        found.append(json.loads(answer.stdout))
    return median([ms for ms, _ in found[1:]]), median([mb for _, mb in found[1:]])


def footprint(directory: Path | None, _: float, *, repeats: int = _REPEATS) -> None:
    """Print it, beside what Python itself and other libraries take."""
    with folder(directory) as place:
        codes = {
            "Python itself": "pass",
            "import pydantic_core": "import pydantic_core",
            "import tinydb": "import tinydb",
            "import sqlite3": "import sqlite3",
            "import collectors (pydantic, the contract)": "import collectors",
            "import buffer": "import buffer",
            "and open an empty buffer": f"import buffer; db = buffer.BufferDB({str(place / 'b')!r})",
        }
        print(f"\nmedian of {repeats} processes{'':24}{'ms':>8}{'RSS, MB':>10}")
        for name, code in codes.items():
            ms, mb = _cost(code, repeats)
            print(f"  {name:44}{ms:>8.1f}{mb:>10.1f}")
