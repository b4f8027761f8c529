"""The store-and-forward buffer: a TinyDB made for flash."""

from buffer.aio import AsyncConsumer, StateTable
from buffer.backend import TinyDBBuffer
from buffer.consumers import Batch, Consumer, Record
from buffer.database import BufferDB
from buffer.errors import (
    BufferClosed,
    BufferFull,
    BufferLocked,
    DiskFault,
    InvalidDocument,
    StoreError,
    UnknownBatch,
    UnknownRecord,
)
from buffer.identity import Identity
from buffer.options import BufferOptions

__all__ = [
    "AsyncConsumer",
    "Batch",
    "BufferClosed",
    "BufferDB",
    "BufferFull",
    "BufferLocked",
    "BufferOptions",
    "Consumer",
    "DiskFault",
    "Identity",
    "InvalidDocument",
    "Record",
    "StateTable",
    "StoreError",
    "TinyDBBuffer",
    "UnknownBatch",
    "UnknownRecord",
]
