"""The enumerations of the contract, and the few that a `Reading` needs."""

from enum import StrEnum


class CollectionStatus(StrEnum):
    """What a collection task is doing."""

    IDLE = "idle"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"
    ERROR = "error"


class TaskStatus(StrEnum):
    """How far an asynchronous task has come."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EventType(StrEnum):
    """What a `SystemEvent` tells."""

    COLLECTION_START = "collection_start"
    COLLECTION_COMPLETE = "collection_complete"
    PROCESSING_START = "processing_start"
    PROCESSING_COMPLETE = "processing_complete"
    STORAGE_START = "storage_start"
    STORAGE_COMPLETE = "storage_complete"
    ERROR_OCCURRED = "error_occurred"


class ErrorType(StrEnum):
    """The five categories into which every error falls."""

    CONFIGURATION = "configuration"
    CONNECTION = "connection"
    VALIDATION = "validation"
    PROCESSING = "processing"
    STORAGE = "storage"


class ClockQuality(StrEnum):
    """How far the time of a reading can be trusted."""

    SYNCED = "synced"
    """The clock was synchronised when the reading was taken."""
    CORRECTED = "corrected"
    """The clock was wrong; the time was corrected from an anchor of the same boot."""
    ESTIMATED = "estimated"
    """The clock was not synchronised, and nothing better is known."""


class QualityFlag(StrEnum):
    """How far the value of a metric can be trusted."""

    GOOD = "good"
    UNCERTAIN = "uncertain"
    BAD = "bad"


class Lane(StrEnum):
    """How urgent a reading is."""

    ALARM = "alarm"
    NORMAL = "normal"
