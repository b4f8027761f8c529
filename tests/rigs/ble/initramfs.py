"""The archive that a Linux kernel unpacks as its first file system: cpio, 'newc' format.

Each entry: the magic `070701`, thirteen numbers of eight hexadecimal digits (inode, mode, user, group, links, time, size, four
device numbers, length of the name with its zero, checksum), the name, its zero, the data; name and data are padded to four bytes.
"""

from __future__ import annotations

import stat

_END = "TRAILER!!!"


class Initramfs:
    """An archive in the making; folders come by themselves."""

    def __init__(self) -> None:
        self._archive = bytearray()
        self._folders: set[str] = {""}
        self._inode = 0

    def folder(self, name: str) -> None:
        """A folder, and those above it."""
        if name not in self._folders:
            self.folder(name.rpartition("/")[0])
            self._folders.add(name)
            self._entry(name, stat.S_IFDIR | 0o755)

    def file(self, name: str, data: bytes) -> None:
        """A file that may be run."""
        self.folder(name.rpartition("/")[0])
        self._entry(name, stat.S_IFREG | 0o755, data)

    def bytes(self) -> bytes:
        """The whole archive."""
        self._entry(_END, 0)
        return bytes(self._archive)

    def _entry(self, name: str, mode: int, data: bytes = b"") -> None:
        self._inode += 1
        text = name.encode() + b"\0"
        numbers = (self._inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(text), 0)
        self._archive += b"070701" + b"".join(b"%08X" % number for number in numbers) + text
        self._pad()
        self._archive += data
        self._pad()

    def _pad(self) -> None:
        self._archive += bytes(-len(self._archive) % 4)
