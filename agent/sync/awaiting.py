"""Packs that are on their way to a receiver, until it names them: exactly, or by the digest of what it refuses."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic_core import from_json

from agent.sync.acknowledgement import Acknowledgement, digest
from agent.sync.upstream import LinkLost, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.sync.upstream import Pack

_log = logging.getLogger(__name__)

_Key = tuple[str, int, int, int]


class AwaitedPacks:
    """What one connection has sent and a receiver has not yet acknowledged.

    Args:
        name: The upstream's, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: dict[_Key, tuple[Pack, asyncio.Future[None]]] = {}

    @contextmanager
    def awaited(self, pack: Pack) -> Iterator[asyncio.Future[None]]:
        """A future that is done when the receiver has named the pack, or raises `UpstreamError`."""
        key = (pack.store_id, pack.first, pack.last, pack.count)
        named: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[key] = pack, named
        try:
            yield named
        finally:
            del self._waiting[key]
            if named.done() and not named.cancelled():
                named.exception()  # seen, also when sending failed first

    def heard(self, payload: bytes) -> None:
        """A receiver said something on our topic."""
        try:
            said = Acknowledgement.model_validate(from_json(payload))
        except ValueError as error:
            _log.warning("sync: %s: not an acknowledgement on our topic: %s", self._name, error)
            return
        for first, last, count in said.acked:
            found = self._waiting.get((said.store, first, last, count))
            if found is not None and not found[1].done():
                found[1].set_result(None)
        if said.rejected:
            by_digest = {digest(pack.payload): named for pack, named in self._waiting.values()}
            for payload_digest, why in said.rejected:
                named = by_digest.get(payload_digest)
                if named is not None and not named.done():
                    named.set_exception(Rejected(f"the receiver refused it: {why}"))

    def link_lost(self) -> None:
        """The connection has ended."""
        for _, named in self._waiting.values():
            if not named.done():
                named.set_exception(LinkLost(f"{self._name}: disconnected"))
