"""What to do about a place that the agent may not write to: a file system that was just made is root's."""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def remedy(error: BaseException, path: Path) -> str:
    """What to do when an error says that access is denied; empty when it says something else. Asks the disk: blocks.

    Args:
        error: What came of it; what caused it counts as well.
        path: Where it was tried, should the error not say.
    """
    denied = error if isinstance(error, PermissionError) else error.__cause__
    if not isinstance(denied, PermissionError):
        return ""
    place = Path(os.fsdecode(denied.filename)) if isinstance(denied.filename, str | bytes) else path
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        owner = place.stat().st_uid
    except OSError:  # it may not even be looked at
        return ""
    if owner == os.geteuid():
        return ""
    user = _name(os.geteuid())
    return (
        f"{place} belongs to {_name(owner)}: `sudo chown {user}: {place}`, and it goes on by itself "
        "(for a place of its own the service does that when it is started)"
    )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
