"""Dead letters: what could not be decoded, processed or delivered, kept with its reason and original bytes.

A dead letter is a JSON object in the buffer's table `dead_letters`:

`t` (seconds UTC), `stage` (`framing`, `metadata`, the failed step's name, or `upstream`), `reason`, and,
for what a source said, `source`, `format`, `method` and `raw` (base64); `origin` where it can be redelivered;
for readings that had come out of a step that held them back, `readings` alone;
for a batch that an upstream will never take, `upstream`, `store_id` and the readings with their seq.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from pydantic_core import to_json

from collectors import metadata_keys

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collectors.models import CollectedData, Reading

TABLE = "dead_letters"


def unprocessed(readings: Sequence[Reading], *, t: float, stage: str, reason: str) -> bytes:
    """The dead letter of readings that a later step could not process, as JSON."""
    return to_json(
        {
            "t": round(t, 6),
            "stage": stage,
            "reason": reason,
            "readings": [reading.to_document() for reading in readings],
        }
    )


def dead_letter(data: CollectedData, *, stage: str, reason: str) -> bytes:
    """The dead letter of a frame or message, as JSON."""
    document = {
        "t": round(data.timestamp.timestamp(), 6),
        "stage": stage,
        "reason": reason,
        "source": data.source_id,
        "format": data.data_format,
        "method": data.collection_method,
        "raw": base64.b64encode(data.raw_data).decode("ascii"),
    }
    origin = data.metadata.get(metadata_keys.ORIGIN)
    if origin is not None:
        document["origin"] = [origin.client, origin.packet, origin.payload_hash]
    return to_json(document)
