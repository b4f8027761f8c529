"""The functions of install.sh and its parts, each by itself."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

from tests.install.checkout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

PRELUDE = """
set -eu
# install.sh without its last line, which runs it.
eval "$(sed '$d' "$ROOT/install.sh")"
root=$ROOT
. "$root/deploy/device.sh"
. "$root/deploy/flash.sh"
"""


def shell(script: str, *arguments: str, **variables: str | Path) -> subprocess.CompletedProcess[str]:
    """Run it in a shell that knows the functions of device.sh and flash.sh."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROOT": str(REPOSITORY)}
    return subprocess.run(
        ["sh", "-c", PRELUDE + script, "sh", *arguments],
        check=False,
        capture_output=True,
        text=True,
        env=environment | {name: str(value) for name, value in variables.items()},
    )
