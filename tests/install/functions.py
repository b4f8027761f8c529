"""The functions of install.sh and its parts, each by itself."""

from __future__ import annotations

import importlib.util
import subprocess
from typing import TYPE_CHECKING

from tests.install.checkout import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

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
    with shell_of(script, *arguments, stderr=subprocess.PIPE, **variables) as running:
        stdout, stderr = running.communicate()
    return subprocess.CompletedProcess(running.args, running.returncode, stdout, stderr)


def shell_of(
    script: str, *arguments: str, stderr: int | None = None, **variables: str | Path
) -> subprocess.Popen[str]:
    """Such a shell, while it runs."""
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "ROOT": str(REPOSITORY)}
    return subprocess.Popen(
        ["sh", "-c", PRELUDE + script, "sh", *arguments],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment | {name: str(value) for name, value in variables.items()},
    )


def script(name: str) -> ModuleType:
    """A script of deploy/, which is no part of a package: it is run by its path."""
    spec = importlib.util.spec_from_file_location(name, REPOSITORY / f"deploy/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
