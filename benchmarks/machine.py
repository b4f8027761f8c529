"""What the numbers were measured on, in one line: a number without its machine says little."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path


def machine() -> str:
    """CPU model, cores, memory, kernel, Python."""
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores, {_memory_gb():.0f} GB; Linux {platform.release()};"
        f" {platform.python_implementation()} {platform.python_version()};"
        f" pydantic {version('pydantic')}, aiomqtt {version('aiomqtt')}, tinydb {version('tinydb')}"
    )


def mosquitto_version() -> str:
    """As the broker says it."""
    answer = subprocess.run(["mosquitto", "-h"], capture_output=True, text=True, check=False)
    return answer.stdout.splitlines()[0]


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model\t")):  # ARM kernels name the board
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9
