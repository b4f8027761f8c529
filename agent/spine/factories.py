"""The factories of the running program, one a layer, so that only one place names concrete managers."""

from agent.spine.backoff import LOCAL, BackoffPolicy
from agent.spine.collection import CollectionManager, discard
from agent.spine.collection_loop import Sink
from agent.spine.metadata import MetadataParser
from agent.spine.pipeline import Pipeline
from agent.spine.processing import ProcessingManager
from agent.spine.spine import Spine
from agent.spine.storage import StorageManager
from collectors.interfaces import (
    ICollectionLayerFactory,
    IProcessingLayerFactory,
    IStorageLayerFactory,
)


class CollectionLayerFactory(ICollectionLayerFactory):
    """Makes the parts of the collection layer.

    Args:
        spine: What every manager needs.
        sink: Takes what is collected.
        backoff: How to wait before a source is tried again.
        formats: The data formats that can be decoded; None takes every one.
    """

    def __init__(
        self,
        spine: Spine,
        *,
        sink: Sink = discard,
        backoff: BackoffPolicy = LOCAL,
        formats: frozenset[str] | None = None,
    ) -> None:
        self._spine = spine
        self._sink = sink
        self._backoff = backoff
        self._formats = formats

    def create_collection_manager(self) -> CollectionManager:
        """A collection manager."""
        return CollectionManager(self._spine, sink=self._sink, backoff=self._backoff)

    def create_metadata_parser(self) -> MetadataParser:
        """A metadata parser."""
        return MetadataParser(self._formats)


class ProcessingLayerFactory(IProcessingLayerFactory):
    """Makes the parts of the processing layer.

    Args:
        spine: What every manager needs.
    """

    def __init__(self, spine: Spine) -> None:
        self._spine = spine

    def create_processing_manager(self) -> ProcessingManager:
        """A processing manager."""
        return ProcessingManager(self._spine)

    def create_pipeline(self) -> Pipeline:
        """An empty pipeline that no manager knows."""
        return Pipeline("pipeline", self._spine)


class StorageLayerFactory(IStorageLayerFactory):
    """Makes the parts of the storage layer.

    Args:
        spine: What every manager needs.
    """

    def __init__(self, spine: Spine) -> None:
        self._spine = spine

    def create_storage_manager(self) -> StorageManager:
        """A storage manager."""
        return StorageManager(self._spine)
