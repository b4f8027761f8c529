"""A file system behind the buffer's seam that counts what is read, by file."""

from collections import Counter

from buffer.filesystem import SystemFileSystem


class CountingDisk(SystemFileSystem):
    """This machine's file system.

    Attributes:
        opened: How often each file was opened, by name.
        read_bytes: How many bytes of each were read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.opened: Counter[str] = Counter()
        self.read_bytes: Counter[str] = Counter()
        self._names: dict[int, str] = {}

    def open(self, path: str, *, write: bool = False) -> int:
        handle = super().open(path, write=write)
        self._names[handle] = path.rsplit("/", 1)[1]
        self.opened[self._names[handle]] += 1
        return handle

    def read(self, handle: int, size: int, offset: int) -> bytes:
        data = super().read(handle, size, offset)
        self.read_bytes[self._names.get(handle, "made here")] += len(data)
        return data

    def close(self, handle: int) -> None:
        self._names.pop(handle, None)
        super().close(handle)

    def forget(self) -> None:
        """Count from zero."""
        self.opened.clear()
        self.read_bytes.clear()

    @property
    def segments_read(self) -> set[int]:
        """The bases of the segments of which anything was read."""
        return {
            int(name[2:18]) for name, size in self.read_bytes.items() if size and name[:2] in {"a.", "s."}
        }
