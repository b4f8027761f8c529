"""What can go wrong with a buffer, split by who has to act."""

from errno import EDQUOT, ENOSPC


class StoreError(Exception):
    """The root of everything that the buffer raises on its own account."""


class BufferClosed(StoreError, ConnectionError):
    """The buffer is not open: connect it first, or it was closed meanwhile."""


class BufferLocked(StoreError, ConnectionError):
    """Another process has this directory open."""


class UnknownFormat(StoreError, ConnectionError):
    """This directory was written by a newer version, in a format that this one cannot read."""


class NoBuffer(StoreError, FileNotFoundError):
    """There is no buffer in this directory."""


class BufferFull(StoreError, RuntimeError):
    """No room: the readings that wait in memory for the disk have reached their bound. Try again later."""


class IdsExhausted(StoreError, RuntimeError):
    """All ids below 2**40 are used up: only a new buffer directory can take more."""


class DiskFault(StoreError, RuntimeError):
    """The disk refused; what was to be written is not durable."""

    @property
    def full(self) -> bool:
        """Whether it refused because it has no room."""
        return isinstance(self.__cause__, OSError) and self.__cause__.errno in {ENOSPC, EDQUOT}


class InvalidDocument(StoreError, ValueError):
    """What was to be stored is not a JSON object."""


class UnknownBatch(StoreError, ValueError):
    """An acknowledgement names a batch that this store never gave."""


class UnknownRecord(StoreError, KeyError):
    """There is no record of that id."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""
