"""The interfaces of the contract: the 14 abstract base classes, and the optional protocols beside them."""

from collectors.interfaces.collection import (
    Acknowledging,
    CatchingUp,
    Counting,
    ICollectionManager,
    IDataSource,
    IMetadataParser,
    Listening,
    Memory,
    Reappearing,
    Remarking,
    Remembering,
    Resuming,
)
from collectors.interfaces.crosscutting import EventHandler, IErrorHandler, IEventEmitter, ITaskTracker
from collectors.interfaces.factories import (
    ICollectionLayerFactory,
    IProcessingLayerFactory,
    IStorageLayerFactory,
)
from collectors.interfaces.processing import IPipeline, IProcessingManager, IProcessor
from collectors.interfaces.storage import IStorageBackend, IStorageManager

__all__ = [
    "Acknowledging",
    "CatchingUp",
    "Counting",
    "EventHandler",
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
    "Listening",
    "Memory",
    "Reappearing",
    "Remarking",
    "Remembering",
    "Resuming",
]
