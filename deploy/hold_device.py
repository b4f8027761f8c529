"""Keeps a disk from everybody else while it is written: `hold_device.py DISK HELD`.

Opened like this (O_EXCL), no file system of it can be mounted and nobody else can claim it, as mkfs and udisks do; and udev, which
minds the lock (flock), does not look at it before it is whole. Makes the file HELD once it has it, then waits for the end of the
process that started it. Runs on any Python 3.9 or later, without packages.
"""

import fcntl
import os
import sys
import time
from pathlib import Path

PATIENCE_S = 10.0
"""udev, which looks at a card that was just put in, has done so by then."""
EVERY_S = 0.1


def hold(device: str) -> int:
    """Open and lock it; the handle.

    Raises:
        OSError: Somebody uses it, or it is gone.
    """
    until_s = time.monotonic() + PATIENCE_S
    while True:
        handle = os.open(device, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            if time.monotonic() > until_s:
                raise
            time.sleep(EVERY_S)
        else:
            return handle


def main(arguments: list[str]) -> int:
    """Hold it; 1 when it cannot be had."""
    device, held = arguments
    parent = os.getppid()
    try:
        handle = hold(device)
    except OSError as error:
        sys.stderr.write(f"{device} cannot be had for us alone: {error.strerror}\n")
        return 1
    Path(held).touch()
    while os.getppid() == parent:
        time.sleep(EVERY_S)
    os.close(handle)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
