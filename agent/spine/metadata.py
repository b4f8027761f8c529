"""The metadata parser: what a sample says about itself, apart from its content."""

import math
from typing import Any

from collectors.interfaces import IMetadataParser
from collectors.metadata_keys import FRAME_ERROR, QUALITY, TAGS
from collectors.models import CollectedData, ParsedMetadata

_OWN_KEYS = frozenset({QUALITY, TAGS, FRAME_ERROR})
_SCHEMA_KEYS = ("data_format", "collection_method", "size_bytes")


class MetadataParser(IMetadataParser):
    """Parses the keys of `collectors.metadata_keys`; the others become source attributes.

    Args:
        formats: The data formats that can be decoded; None takes every one.
    """

    def __init__(self, formats: frozenset[str] | None = None) -> None:
        self._formats = formats

    async def parse(self, collected_data: CollectedData) -> ParsedMetadata:
        """Parse the metadata of a sample. Whatever is wrong with it is in `validation_errors`.

        Raises:
            ValueError: It is not a `CollectedData`.
        """
        if not isinstance(collected_data, CollectedData):
            raise ValueError(f"not a CollectedData: {type(collected_data).__name__}")
        metadata = collected_data.metadata
        errors: list[str] = []
        if self._formats is not None and collected_data.data_format not in self._formats:
            errors.append(f"data_format: {collected_data.data_format!r} is not known")
        frame_error = metadata.get(FRAME_ERROR)
        if frame_error is not None:
            errors.append(f"{FRAME_ERROR}: {frame_error}")
        attributes: dict[str, Any] = {"source_id": collected_data.source_id}
        tags = metadata.get(TAGS)
        if tags is not None:
            attributes[TAGS] = _tags(tags, errors)
        attributes.update((key, value) for key, value in metadata.items() if key not in _OWN_KEYS)
        quality = metadata.get(QUALITY)
        return ParsedMetadata(
            schema={
                "data_format": collected_data.data_format,
                "collection_method": collected_data.collection_method,
                "size_bytes": len(collected_data.raw_data),
            },
            quality_indicators={} if quality is None else _indicators(quality, errors),
            source_attributes=attributes,
            is_valid=not errors,
            validation_errors=errors,
        )

    async def validate(self, metadata: ParsedMetadata) -> bool:
        """Whether the metadata is complete and says nothing against the sample."""
        return (
            metadata.is_valid
            and not metadata.validation_errors
            and all(key in metadata.schema for key in _SCHEMA_KEYS)
            and bool(metadata.source_attributes.get("source_id"))
            and all(math.isfinite(value) for value in metadata.quality_indicators.values())
        )


def _indicators(quality: object, errors: list[str]) -> dict[str, float]:
    if not isinstance(quality, dict):
        errors.append(f"{QUALITY}: must be numbers by name, not {type(quality).__name__}")
        return {}
    indicators = {}
    for name, value in quality.items():
        if isinstance(name, str) and isinstance(value, int | float) and _finite(value):
            indicators[name] = float(value)
        else:
            errors.append(f"{QUALITY}.{name}: must be a finite number, not {value!r}")
    return indicators


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond any float
        return False


def _tags(tags: object, errors: list[str]) -> dict[str, str]:
    if isinstance(tags, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in tags.items()):
        return dict(tags)
    errors.append(f"{TAGS}: must be texts by name, not {tags!r}")
    return {}
