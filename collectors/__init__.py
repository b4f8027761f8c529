"""The contract of Outstation's layers: interfaces, models, enumerations, and mocks to test against.

Everything public can be imported from here. The mocks are loaded when first asked for: a running device
has no use for them.
"""

import importlib
from typing import TYPE_CHECKING, Any

from collectors.clock import Clock, SystemClock
from collectors.enums import (
    ClockQuality,
    CollectionStatus,
    ErrorType,
    EventType,
    Lane,
    QualityFlag,
    TaskStatus,
)
from collectors.interfaces import (
    Acknowledging,
    EventHandler,
    ICollectionLayerFactory,
    ICollectionManager,
    IDataSource,
    IErrorHandler,
    IEventEmitter,
    IMetadataParser,
    IPipeline,
    IProcessingLayerFactory,
    IProcessingManager,
    IProcessor,
    IStorageBackend,
    IStorageLayerFactory,
    IStorageManager,
    ITaskTracker,
    Memory,
    Remarking,
    Remembering,
)
from collectors.models import (
    CollectedData,
    CollectionStatistics,
    CollectionTask,
    ErrorInfo,
    Model,
    Origin,
    ParsedMetadata,
    PipelineResult,
    PipelineStep,
    ProcessingResult,
    ProcessingStatistics,
    Quality,
    QueryCriteria,
    Reading,
    StorageLocation,
    StorageStatistics,
    SystemEvent,
    TaskInfo,
    Value,
    to_utc,
)
from collectors.registration import BackendRegistration, SourceRegistration

if TYPE_CHECKING:
    from collectors.mocks import (
        MockCollectionLayerFactory,
        MockCollectionManager,
        MockDataSource,
        MockErrorHandler,
        MockEventEmitter,
        MockMetadataParser,
        MockPipeline,
        MockProcessingLayerFactory,
        MockProcessingManager,
        MockProcessor,
        MockStorageBackend,
        MockStorageLayerFactory,
        MockStorageManager,
        MockTaskTracker,
    )

__all__ = [
    "Acknowledging",
    "BackendRegistration",
    "Clock",
    "ClockQuality",
    "CollectedData",
    "CollectionStatistics",
    "CollectionStatus",
    "CollectionTask",
    "ErrorInfo",
    "ErrorType",
    "EventHandler",
    "EventType",
    "ICollectionLayerFactory",
    "ICollectionManager",
    "IDataSource",
    "IErrorHandler",
    "IEventEmitter",
    "IMetadataParser",
    "IPipeline",
    "IProcessingLayerFactory",
    "IProcessingManager",
    "IProcessor",
    "IStorageBackend",
    "IStorageLayerFactory",
    "IStorageManager",
    "ITaskTracker",
    "Lane",
    "Memory",
    "MockCollectionLayerFactory",
    "MockCollectionManager",
    "MockDataSource",
    "MockErrorHandler",
    "MockEventEmitter",
    "MockMetadataParser",
    "MockPipeline",
    "MockProcessingLayerFactory",
    "MockProcessingManager",
    "MockProcessor",
    "MockStorageBackend",
    "MockStorageLayerFactory",
    "MockStorageManager",
    "MockTaskTracker",
    "Model",
    "Origin",
    "ParsedMetadata",
    "PipelineResult",
    "PipelineStep",
    "ProcessingResult",
    "ProcessingStatistics",
    "Quality",
    "QualityFlag",
    "QueryCriteria",
    "Reading",
    "Remarking",
    "Remembering",
    "SourceRegistration",
    "StorageLocation",
    "StorageStatistics",
    "SystemClock",
    "SystemEvent",
    "TaskInfo",
    "TaskStatus",
    "Value",
    "to_utc",
]


def __getattr__(name: str) -> Any:
    if name.startswith("Mock") and name in __all__:
        return getattr(importlib.import_module("collectors.mocks"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
