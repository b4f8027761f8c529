"""A copy of a buffer that may be in use, as a power cut at this moment would leave it.

Sealed segments never change, so the copy links to them: it takes no room, however large the backlog. Everything else is
copied, what says who has acknowledged before what there is to acknowledge, since the other order could make a copy
whose marks are ahead of its records.
"""

import os
import shutil
from pathlib import Path
from typing import Final

from buffer.errors import NoBuffer
from buffer.naming import is_segment, is_temporary, parse_sealed

_LOOKS: Final = 20
_LEFT_OUT: Final = frozenset({".lock", ".quarantine"})


def copy_store(path: Path, copy: Path) -> None:
    """Copy a buffer into a new folder on the same file system.

    Args:
        path: The buffer.
        copy: Where to; must not exist.

    Raises:
        NoBuffer: There is no buffer at `path`.
        FileExistsError: There is something at `copy`.
        OSError: It cannot be read or written.
    """
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


def _copy_table(folder: Path, copy: Path) -> None:
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
    copy.mkdir(mode=0o700)
    names = [name for name in sorted(os.listdir(folder)) if not is_temporary(name)]  # noqa: PTH208 (names are parsed)
    for name in names:
        if parse_sealed(name):
            os.link(folder / name, copy / name)
        else:
            shutil.copyfile(folder / name, copy / name)
    # A file that was written meanwhile has other records than the copy, and no fewer; one with another name has moved.
    if [name for name in names if is_segment(name)] != [
        name
        for name in sorted(os.listdir(folder))  # noqa: PTH208 (likewise)
        if is_segment(name)
    ]:
        raise FileNotFoundError(folder)
