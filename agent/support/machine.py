"""What machine this is, and what runs on it. Asks the system: blocks."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, Final

from agent.version import version

_JOURNAL: Final = (
    "journalctl",
    "--unit=outstation",
    "--lines=2000",
    "--no-pager",
    "--output=short-iso",
    "--quiet",
)
_JOURNAL_TIMEOUT_S: Final = 20.0


def versions(root: Path = Path("/")) -> str:
    """Versions of everything that takes part, as JSON."""
    found: dict[str, Any] = {
        "outstation": version(),
        "python": sys.version,
        "executable": sys.executable,
        "kernel": " ".join(platform.uname()[:5]),
        "model": _text(root / "proc/device-tree/model").rstrip("\0"),
        "system": _text(root / "etc/os-release"),
        "uptime_s": _text(root / "proc/uptime").partition(" ")[0],
        "memory": _text(root / "proc/meminfo").splitlines()[:3],
        "packages": dict(sorted((each.name, each.version) for each in distributions())),
    }
    return json.dumps(found, indent=2)


def journal() -> str:
    """The newest lines of the service's log, or why they cannot be had."""
    try:
        done = subprocess.run(  # noqa: S603 (a fixed command)
            _JOURNAL, capture_output=True, timeout=_JOURNAL_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"(not to be had: {error})\n"
    said = done.stdout.decode("utf-8", "replace")
    if said.strip():
        return said
    why = done.stderr.decode("utf-8", "replace").strip()
    return f"(nothing; {why or 'this user may not read it, or there is no such unit'})\n"


def _text(file: Path) -> str:
    try:
        return file.read_text("utf-8", "replace")
    except OSError:
        return ""
