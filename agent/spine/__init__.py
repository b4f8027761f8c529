"""The spine of the running program: managers, pipeline, events, errors, tasks, back-off."""

from agent.spine.backoff import LOCAL, Backoff, BackoffPolicy
from agent.spine.collection import CollectionManager
from agent.spine.collection_loop import Sink, SourceLink
from agent.spine.errors import ErrorFlow, LogErrorHandler, classify
from agent.spine.events import EventEmitter
from agent.spine.factories import CollectionLayerFactory, ProcessingLayerFactory, StorageLayerFactory
from agent.spine.metadata import MetadataParser
from agent.spine.pipeline import Pipeline
from agent.spine.processing import ProcessingManager
from agent.spine.spine import Spine, open_spine
from agent.spine.storage import Appending, Measured, StorageManager
from agent.spine.tasks import TaskTracker

__all__ = [
    "LOCAL",
    "Appending",
    "Backoff",
    "BackoffPolicy",
    "CollectionLayerFactory",
    "CollectionManager",
    "ErrorFlow",
    "EventEmitter",
    "LogErrorHandler",
    "Measured",
    "MetadataParser",
    "Pipeline",
    "ProcessingLayerFactory",
    "ProcessingManager",
    "Sink",
    "SourceLink",
    "Spine",
    "StorageLayerFactory",
    "StorageManager",
    "TaskTracker",
    "classify",
    "open_spine",
]
