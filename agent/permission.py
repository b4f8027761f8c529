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
    return f"{place} belongs to {_name(owner)}: `{_command(user, place, path)}`, and it goes on by itself"


def _command(user: str, place: Path, path: Path) -> str:
    if place == path or path in place.parents:
        return f"sudo chown -R {user}: {path}"
    if place.is_mount():
        return f"sudo chown {user}: {place}"
    return f"sudo install -d -m 750 -o {user} {path}"  # a folder of everybody's stays what it is


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
