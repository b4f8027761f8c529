"""A copy of a buffer that may be in use, as a power cut at this moment would leave it.

Sealed segments never change, so the copy links to them: it takes no room, however large the backlog. Where the file system
knows no hard links (FAT, exFAT), or the buffer is one by itself, they are copied as long as there is room. Everything else is
copied, what says who has acknowledged before what there is to acknowledge, since the other order could make a copy
whose marks are ahead of its records.

A copy that a power cut leaves behind would keep the room of its segments taken after the buffer has let go of them. So each
lies in a folder that is locked while it is in use; one that is not is abandoned.

The agent loads this for the sake of the abandoned ones, which are rare: what copying takes is imported there.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from buffer.errors import NoBuffer
from buffer.naming import is_segment, is_temporary, parse_sealed

_LOOKS: Final = 20
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
_SPARED: Final = 0.05
"""Of a disk: a copy leaves so much of it free, since the agent writes there meanwhile."""
_PREFIX: Final = ".self-test-"
_LEFT_OUT: Final = frozenset({".lock", ".quarantine"})


def copy_store(path: Path, copy: Path) -> None:
    """Copy a buffer into a new folder, on the same file system where that is possible.

    Args:
        path: The buffer.
        copy: Where to; must not exist.

    Raises:
        NoBuffer: There is no buffer at `path`.
        FileExistsError: There is something at `copy`.
        OSError: It cannot be read or written, or there is no room for a copy.
    """
    import shutil

    if not path.is_dir():
        raise NoBuffer(f"there is no buffer in {path}")
    copy.mkdir(mode=0o700)
    entries = sorted(path.iterdir(), key=lambda entry: (not entry.name.startswith("."), entry.name))
    for entry in entries:
        if entry.name in _LEFT_OUT or is_temporary(entry.name):
            continue
        if entry.is_dir():
            _copy_table(entry, copy / entry.name)
        elif entry.is_file():
            shutil.copyfile(entry, copy / entry.name)


@contextmanager
def folder_for_copy(path: Path) -> Iterator[Path]:
    """Make a folder beside a buffer, on the same file system; removed at the end.

    Args:
        path: The buffer.

    Raises:
        OSError: It cannot be made.
    """
    from tempfile import mkdtemp

    folder = Path(mkdtemp(prefix=_PREFIX, dir=path.parent))
    handle = _lock(folder)
    try:
        yield folder
    finally:
        _remove(folder)
        os.close(handle)


def clear_abandoned_copies(path: Path) -> None:
    """Remove copies that nobody uses, as power cuts leave them; what cannot be removed stays.

    Args:
        path: The buffer that they are of.
    """
    for folder in path.parent.glob(f"{_PREFIX}*"):
        try:
            handle = _lock(folder)
        except OSError:
            continue
        try:
            _remove(folder)
        finally:
            os.close(handle)


def _link_or_copy(segment: Path, copy: Path) -> None:
    """A second name for a segment that never changes; a copy where there can be no such."""
    try:
        os.link(segment, copy)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _copy_if_there_is_room(segment, copy)


def _copy_if_there_is_room(segment: Path, copy: Path) -> None:
    import shutil

    state = os.statvfs(copy.parent)
    free_bytes = state.f_bavail * state.f_frsize - _SPARED * state.f_blocks * state.f_frsize
    if segment.stat().st_size > free_bytes:
        missing_bytes = sum(file.stat().st_size for file in segment.parent.iterdir())
        raise OSError(
            f"{segment.parent} cannot be linked to from {copy.parent} (another file system, or one without hard links),"
            f" and there is no room to copy its {missing_bytes / 1e6:.0f} MB: free some, or have more of it delivered first",
        )
    shutil.copyfile(segment, copy)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: Path) -> int:
    """Lock it until what is returned is closed.

    Raises:
        BlockingIOError: Somebody has it locked.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle


def _copy_table(folder: Path, copy: Path) -> None:
    import shutil

    for look in range(_LOOKS):
        try:
            _copy_once(folder, copy)
        except FileNotFoundError:
            # It was sealed, replaced or dropped between being listed and being read.
            if look == _LOOKS - 1:
                raise
            shutil.rmtree(copy)
        else:
            return


def _copy_once(folder: Path, copy: Path) -> None:
    import shutil

    copy.mkdir(mode=0o700)
    names = [name for name in sorted(os.listdir(folder)) if not is_temporary(name)]  # noqa: PTH208 (names are parsed)
    for name in names:
        if parse_sealed(name):
            _link_or_copy(folder / name, copy / name)
        else:
            shutil.copyfile(folder / name, copy / name)
    # A file that was written meanwhile has other records than the copy, and no fewer; one with another name has moved.
    if [name for name in names if is_segment(name)] != [
        name
        for name in sorted(os.listdir(folder))  # noqa: PTH208 (likewise)
        if is_segment(name)
    ]:
        raise FileNotFoundError(folder)
