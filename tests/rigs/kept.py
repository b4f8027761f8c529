"""What takes long to make and stays the same: kept below the user's cache folder, so that the next run finds it."""

from __future__ import annotations

import fcntl
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "outstation-tests"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time makes what is kept in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def kept(name: str, key: str, make: Callable[[Path], None]) -> Path:
    """A folder or file that `make` made, at a path that holds nothing before; made if it is not there yet.

    Args:
        name: Of what is kept; only one of a name is.
        key: What it depends on.
        make: Makes it at the given path.
    """
    place = CACHE / name
    with locked(place):
        found = place / key
        if not found.exists():
            for old in place.iterdir():
                if old.name != "lock":
                    shutil.rmtree(old) if old.is_dir() else old.unlink()
            part = place / f"{key}.part"
            make(part)
            part.rename(found)
    return found
