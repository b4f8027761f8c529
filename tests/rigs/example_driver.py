"""The package of docs/example-driver, installed as a user would, and found by its entry points."""

from __future__ import annotations

import atexit
import importlib
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs" / "example-driver"


@cache
def installed() -> Path:
    """The folder that it is in; from now on this process finds it, too."""
    folder = Path(tempfile.mkdtemp(prefix="outstation-example-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--target", folder, EXAMPLE],
        check=True,
        capture_output=True,
        timeout=50,
    )
    sys.path.append(str(folder))
    importlib.invalidate_caches()
    return folder
