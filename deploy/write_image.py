"""Writes a disk image, compressed or not, to a card or a file, and reads it back: `write_image.py IMAGE TARGET`.

A file that it makes is for the user alone who called sudo: passwords and keys are put into it later. Runs on any Python 3.9 or later,
without packages. A progress bar stands on a terminal's standard error.
"""

import hashlib
import lzma
import os
import sys
import time
from pathlib import Path

BLOCK_BYTES = 4 << 20
XZ = b"\xfd7zXZ\x00"
BAR = 30
EVERY_S = 0.2


class Bar:
    """`writing [######----] 1.2 of 2.6 GB, 18 MB/s`."""

    def __init__(self, what: str, all_bytes: int) -> None:
        self._what = what
        self._all = all_bytes
        self._began = self._drawn = time.monotonic()

    def show(self, done: int, *, last: bool = False) -> None:
        """Draw it, a few times a second."""
        now = time.monotonic()
        if not sys.stderr.isatty() or (now - self._drawn < EVERY_S and not last):
            return
        self._drawn = now
        share = min(1.0, done / self._all) if self._all else 0.0
        bar = "#" * int(share * BAR)
        speed = done / 1e6 / max(now - self._began, 0.001)
        of = f" of {self._all / 1e9:.1f}" if self._all else ""
        sys.stderr.write(f"\r{self._what} [{bar:-<{BAR}}] {done / 1e9:.1f}{of} GB, {speed:.0f} MB/s ")
        sys.stderr.write("\n" if last else "")
        sys.stderr.flush()


def uncompressed_bytes(image: Path) -> int:
    """How large it becomes, for the bar; 0 when that is not known before."""
    with image.open("rb") as file:
        return 0 if file.read(len(XZ)) == XZ else image.stat().st_size


def opened(target: Path) -> int:
    """The card, or a new file."""
    if target.exists():
        return os.open(target, os.O_WRONLY)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    if os.geteuid() == 0 and "SUDO_UID" in os.environ:
        os.fchown(handle, int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"]))
    return handle


def write(image: Path, target: Path) -> tuple[int, str]:
    """Write; how many bytes, and their checksum."""
    with image.open("rb") as file:
        compressed = file.read(len(XZ)) == XZ
    source = lzma.open(image) if compressed else image.open("rb")  # noqa: SIM115 (closed below)
    digest, done = hashlib.sha256(), 0
    bar = Bar("writing", uncompressed_bytes(image))
    handle = opened(target)
    try:
        with source:
            while block := source.read(BLOCK_BYTES):
                digest.update(block)
                view = memoryview(block)
                while view:
                    view = view[os.write(handle, view) :]
                done += len(block)
                bar.show(done)
        os.fsync(handle)
        # What is read back must come from the card.
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)
    bar.show(done, last=True)
    return done, digest.hexdigest()


def read_back(target: Path, count: int) -> str:
    """The checksum of the first `count` bytes."""
    digest, done = hashlib.sha256(), 0
    bar = Bar("checking", count)
    with target.open("rb", buffering=0) as file:
        while done < count:
            block = file.read(min(BLOCK_BYTES, count - done))
            if not block:
                break
            digest.update(block)
            done += len(block)
            bar.show(done)
    bar.show(done, last=True)
    return digest.hexdigest()


def main(arguments: list[str]) -> int:
    """Write and check; 1 when what is read is not what was written."""
    image, target = map(Path, arguments)
    try:
        count, written = write(image, target)
        read = read_back(target, count)
    except (OSError, lzma.LZMAError, EOFError) as error:
        sys.stderr.write(f"\n{image} could not be written to {target}: {error}\n")
        return 1
    if read != written:
        sys.stderr.write(
            f"\n{target} does not give back what was written to it: it is worn out, or no true card\n"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
