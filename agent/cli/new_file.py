"""Files that commands write: never over another one, and whole or not there."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def new_file(path: Path | None, *, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Where to write: stdout, or a new file that is complete under its name or not there at all.

    Args:
        path: The file; None is stdout.
        mode: Its permissions, of which the user's mask takes some away.

    Raises:
        FileExistsError: There is one of this name.
    """
    if path is None:
        yield sys.stdout.buffer
        sys.stdout.flush()
        return
    with path.open("xb"):  # the name is ours from here on
        pass
    partial = path.with_name(f"{path.name}.part")
    try:
        with open(partial, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as output:
            yield output
            output.flush()
            os.fsync(output.fileno())  # a stick that is pulled out now has it
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        raise
