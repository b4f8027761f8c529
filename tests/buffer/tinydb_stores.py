"""Stock TinyDB and the buffer, opened alike, so that one test can ask the same of each."""

from collections.abc import Callable
from pathlib import Path

from tinydb import TinyDB
from tinydb.storages import MemoryStorage

from buffer import BufferDB


def stock_in_memory(path: Path) -> TinyDB:
    """Stock TinyDB without a file."""
    return TinyDB(storage=MemoryStorage)


def stock_in_a_file(path: Path) -> TinyDB:
    """Stock TinyDB as most people use it."""
    return TinyDB(path / "stock.json")


def buffer_by_the_window(path: Path) -> TinyDB:
    """The buffer, with all that is new in memory until somebody flushes; small segments, so that there are many."""
    return BufferDB(path / "buffer", threaded=False, segment_bytes=4096)


def buffer_by_each(path: Path) -> TinyDB:
    """The buffer, with everything durable at once."""
    return BufferDB(path / "buffer", threaded=False, segment_bytes=4096, sync="each")


STORES: dict[str, Callable[[Path], TinyDB]] = {
    "stock-memory": stock_in_memory,
    "stock-file": stock_in_a_file,
    "buffer": buffer_by_the_window,
    "buffer-each": buffer_by_each,
}
