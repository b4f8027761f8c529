"""A disk that gives nothing back, whatever is written: said, and not written to for ever."""

import errno

import pytest

from buffer import BufferDB, DiskFault
from buffer.filesystem import SystemFileSystem

SEGMENT_BYTES = 4096


class Deaf(SystemFileSystem):
    """Takes everything; reading a sealed segment fails while `deaf`."""

    def __init__(self) -> None:
        super().__init__()
        self.deaf = False
        self.created = 0
        self._sealed: set[int] = set()

    def create(self, path):
        self.created += 1
        return super().create(path)

    def open(self, path, *, write=False):
        handle = super().open(path, write=write)
        (self._sealed.add if "/s." in path else self._sealed.discard)(handle)
        return handle

    def read(self, handle, size, offset):
        if self.deaf and handle in self._sealed:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(handle, size, offset)


@pytest.mark.timeout(20)
def test_a_disk_that_gives_nothing_back_is_said_and_not_written_to_for_ever(tmp_path):
    disk = Deaf()
    with BufferDB(tmp_path, segment_bytes=SEGMENT_BYTES, fs=disk, threaded=False) as buffer:
        for n in range(200):
            buffer.insert({"n": n, "text": "x" * 50})
        buffer.flush()
        disk.deaf, before = True, disk.created
        with pytest.raises(DiskFault, match=r"though written anew: .*Input/output error"):
            buffer.consumer("cloud").take(10)
        assert disk.created - before <= 3
