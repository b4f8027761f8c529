"""Factories: one a layer, so that a program names concrete parts in one place only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collectors.interfaces.collection import ICollectionManager, IMetadataParser
    from collectors.interfaces.processing import IPipeline, IProcessingManager
    from collectors.interfaces.storage import IStorageManager


class ICollectionLayerFactory(ABC):
    """Makes the parts of the collection layer."""

    @abstractmethod
    def create_collection_manager(self) -> ICollectionManager:
        """A collection manager."""

    @abstractmethod
    def create_metadata_parser(self) -> IMetadataParser:
        """A metadata parser."""


class IProcessingLayerFactory(ABC):
    """Makes the parts of the processing layer."""

    @abstractmethod
    def create_processing_manager(self) -> IProcessingManager:
        """A processing manager."""

    @abstractmethod
    def create_pipeline(self) -> IPipeline:
        """An empty pipeline."""


class IStorageLayerFactory(ABC):
    """Makes the parts of the storage layer."""

    @abstractmethod
    def create_storage_manager(self) -> IStorageManager:
        """A storage manager."""
