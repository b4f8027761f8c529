"""`outstation read`: prints what one source says, decoded; stores and acknowledges nothing."""

from __future__ import annotations

import asyncio
import json
import sys
from functools import cache
from typing import TYPE_CHECKING, Any

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.composition import create_source, find_codec
from agent.processors.decode import named
from collectors import metadata_keys
from collectors.clock import SystemClock

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from collectors.interfaces import IDataSource
    from collectors.models import CollectedData
    from drivers.codecs import Codec


def main(arguments: argparse.Namespace) -> int:
    """Read one source until stopped, or for so many frames."""
    config = load(arguments.config)
    if config is None:
        return WRONG_CONFIGURATION
    found = {source.id: source for source in config.source}.get(arguments.source)
    if found is None:
        names = ", ".join(source.id for source in config.source)
        print(
            f"there is no source {arguments.source!r} in {arguments.config}; there are {names}",
            file=sys.stderr,
        )
        return WRONG_CONFIGURATION
    source = create_source(config, found, SystemClock(), onlooker=True)
    try:
        asyncio.run(_read(source, cache(find_codec(config)), arguments.count))
    except ConnectionError as error:
        print(f"{arguments.source}: {error}", file=sys.stderr)
        return FAILED
    return DONE


async def _read(source: IDataSource, find: Callable[[str, str], Codec], count: int | None) -> None:
    await source.connect()
    try:
        seen = 0
        async for data in source.collect_stream():
            print(_line(data, find), flush=True)
            seen += 1
            if count is not None and seen >= count:
                return
    finally:
        await source.disconnect()


def _line(data: CollectedData, find: Callable[[str, str], Codec]) -> str:
    stamp = data.timestamp.isoformat(timespec="milliseconds")
    garbage = data.metadata.get(metadata_keys.FRAME_ERROR)
    if garbage is not None:
        return f"{stamp}  GARBAGE  {garbage}: {data.raw_data[:80]!r}"
    try:
        decoded = find(data.source_id, data.data_format)(data.raw_data)
    except ValueError as error:
        return f"{stamp}  GARBAGE  {error}: {data.raw_data[:80]!r}"
    return "\n".join(f"{stamp}  {_said(item.values, item.tags, data)}" for item in decoded)


def _said(values: dict[str, Any], tags: dict[str, str], data: CollectedData) -> str:
    """Values and tags as a reading would have them."""
    tags = {**data.metadata.get(metadata_keys.TAGS, {}), **tags}
    if (metric := data.metadata.get(metadata_keys.METRIC)) is not None:
        values, _, tags = named(values, {}, tags, metric)
    where = f"  {json.dumps(tags, ensure_ascii=False)}" if tags else ""
    return f"{json.dumps(values, ensure_ascii=False)}{where}"
