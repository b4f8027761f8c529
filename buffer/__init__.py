"""The store-and-forward buffer: a TinyDB made for flash."""

from buffer.backend import AsyncConsumer, StateTable, TinyDBBuffer
from buffer.consumers import Batch, Consumer, Identity, Record
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
