"""The disk that the buffer is on: room, kind, options, errors, wear."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent.partition import NotMountedError, require_mounted
from agent.status.text import size
from drivers.examination import ok, problem, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config import BufferConfig
    from drivers.examination import Finding

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})
_ELSEWHERE: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p"})
_WITHOUT_JOURNAL: Final = frozenset({"vfat", "exfat", "msdos", "ntfs", "ntfs3", "fuseblk"})
_USED_UP: Final = ("", "10", "20", "30", "40", "50", "60", "70", "80", "90", "100", "more than 100")
"""EXT_CSD_DEVICE_LIFE_TIME_EST of JEDEC's eMMC standard (JESD84-B51), per cent."""
_USED_UP_WARNING: Final = 9


@dataclass(frozen=True, slots=True)
class Mount:
    """A file system as it is mounted."""

    place: str
    kind: str
    options: frozenset[str]
    device: str


def findings(buffer: BufferConfig, root: Path = Path("/")) -> Iterator[Finding]:
    """What is known about it. Asks the system: blocks."""
    try:
        require_mounted(buffer.path, root)
    except NotMountedError as error:
        remedy = "`dmesg` and `systemctl status` of its mount unit say why; the agent stores again once it is mounted"
        yield problem("file system", f"{error}: the agent does not write what would be hidden later", remedy)
        return
    place = buffer.path
    while not place.exists():  # it is made at the first start
        place = place.parent
    mount = mount_of(place, root / "proc/self/mountinfo")
    yield from _room(place, buffer)
    if mount is None:
        return
    yield from _mounted(mount)
    yield from _device(root / f"sys/fs/ext4/{Path(mount.device).name}", _disk(root, mount.device))


def mount_of(place: Path, mountinfo: Path) -> Mount | None:
    """The mount that a path is on; the last of its place counts (proc(5))."""
    real = os.path.realpath(place)
    found: Mount | None = None
    try:
        lines = mountinfo.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, more = before.split(), after.split()
        at = fields[4].encode().decode("unicode_escape")
        inside = at in {"/", real} or real.startswith(f"{at}/")
        if inside and (found is None or len(at) >= len(found.place)):
            options = frozenset([*fields[5].split(","), *more[2].split(",")])
            found = Mount(at, more[0], options, more[1])
    return found


def _room(place: Path, buffer: BufferConfig) -> Iterator[Finding]:
    state = os.statvfs(place)
    free, whole = state.f_bavail * state.f_frsize, state.f_blocks * state.f_frsize
    room = f"{size(free)} of {size(whole)} free on the disk of {buffer.path}"
    reserve = min(buffer.reserve, whole // 10)
    remedy = "free some: `sudo du -xh / | sort -h | tail`; journalctl --vacuum-size=50M; or use a larger card"
    if free <= reserve:
        yield problem(
            "room", f"{room}: the reserve of {size(reserve)} is reached, so readings are dropped", remedy
        )
    elif free < 2 * reserve or free < whole // 20:
        yield warning("room", room, remedy)
    else:
        yield ok("room", room)
    if state.f_files and state.f_favail < state.f_files // 50:
        yield warning("room", f"only {state.f_favail} files more fit on the disk", remedy)


def _mounted(mount: Mount) -> Iterator[Finding]:
    where = f"{mount.place} ({mount.kind})"
    if "ro" in mount.options:
        remedy = f"`dmesg | grep -i ext4` says why; then sudo mount -o remount,rw {mount.place}, or change the card"
        yield problem("file system", f"{where} is mounted read-only", remedy)
    elif mount.kind in _IN_MEMORY:
        yield problem(
            "file system", f"{where} is in memory: readings are gone with the power", "set buffer.path"
        )
    elif mount.kind in _ELSEWHERE:
        remedy = "set buffer.path to a disk of this machine"
        yield warning(
            "file system", f"{where} is on another machine: what is written may not be durable", remedy
        )
    elif mount.kind in _WITHOUT_JOURNAL:
        yield warning("file system", f"{where} suffers from power cuts", "use ext4: sudo mkfs.ext4 ...")
    elif mount.kind == "overlay" or "nobarrier" in mount.options or "barrier=0" in mount.options:
        remedy = "put the buffer on a partition of its own"
        yield warning(
            "file system", f"{where}: whether writes are durable there depends on what is below", remedy
        )
    elif "noatime" not in mount.options and "relatime" not in mount.options:
        remedy = f"add noatime,lazytime to {mount.place} in /etc/fstab"
        yield warning("file system", f"{where}: each reading of a file writes to the card", remedy)
    else:
        yield ok("file system", f"{where}, {', '.join(sorted(mount.options & _TOLD))}")


_TOLD: Final = frozenset({"rw", "noatime", "relatime", "lazytime", "commit=30"})


def _disk(root: Path, device: str) -> Path | None:
    """The whole disk of a partition, in sysfs."""
    link = root / "sys/class/block" / Path(device).name
    try:
        real = link.resolve(strict=True)
    except OSError:
        return None
    return real.parent if (real / "partition").exists() else real


def _device(file_system: Path, disk: Path | None) -> Iterator[Finding]:
    errors = _text(file_system / "errors_count")
    if errors not in {None, "0"}:
        remedy = "copy the card and use another; sudo touch /forcefsck and reboot checks this one"
        yield problem("file system", f"ext4 has counted {errors} errors", remedy)
    used = (_text(disk / "device/life_time") or "") if disk is not None else ""
    worst = max((int(part, 16) for part in used.split() if part.startswith("0x")), default=0)
    if 0 < worst < len(_USED_UP):
        what = f"up to {_USED_UP[worst]} % of its life is used up, as it says"
        if worst >= _USED_UP_WARNING:
            yield warning("card", what, "copy it to another one in time")
        else:
            yield ok("card", what)


def _text(file: Path) -> str | None:
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
