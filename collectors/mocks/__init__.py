"""In-memory implementations of every interface, for tests.

They hold to the contract as the real parts do. Beyond it each mock counts its calls (`calls`), fails when
asked to (`fail("connect", ConnectionError("unplugged"))`), and shows what it was given. Managers report to
`Surroundings`: give several the same ones to see what they do together.
"""

from collectors.mocks.collection import (
    MockCollectionLayerFactory,
    MockCollectionManager,
    MockDataSource,
    MockMetadataParser,
)
from collectors.mocks.crosscutting import MockErrorHandler, MockEventEmitter, MockTaskTracker, Surroundings
from collectors.mocks.processing import (
    MockPipeline,
    MockProcessingLayerFactory,
    MockProcessingManager,
    MockProcessor,
)
from collectors.mocks.storage import MockStorageBackend, MockStorageLayerFactory, MockStorageManager

__all__ = [
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
    "Surroundings",
]
