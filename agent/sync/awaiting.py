"""Packs that are on their way to a receiver, until it names them by the digest of what was sent."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic_core import ValidationError, from_json

from agent.sync.acknowledgement import Acknowledgement
from agent.sync.upstream import LinkLost, Rejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.sync.upstream import Pack

_log = logging.getLogger(__name__)


class AwaitedPacks:
    """What one connection has sent and a receiver has not yet acknowledged.

    Args:
        name: The upstream's, for messages.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)
        """By digest: the same may be on its way twice, from the buffer and as a dead letter that is sent again."""

    @contextmanager
    def awaited(self, pack: Pack) -> Iterator[asyncio.Future[None]]:
        """A future that is done when the receiver has named the pack, or raises `UpstreamError`."""
        named: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[pack.digest].append(named)
        try:
            yield named
        finally:
            self._waiting[pack.digest].remove(named)
            if not self._waiting[pack.digest]:
                del self._waiting[pack.digest]
            if named.done() and not named.cancelled():
                named.exception()  # seen, also when sending failed first

    def heard(self, payload: bytes) -> None:
        """A receiver said something on our topic."""
        try:
            said = Acknowledgement.model_validate(from_json(payload))
        except ValueError as error:
            _log.warning("sync: %s: not an acknowledgement on our topic: %s", self._name, _why(error))
            return
        for payload_digest in said.acked:
            for named in self._undecided(payload_digest):
                named.set_result(None)
        for payload_digest, why, in_part in said.refusals:
            for named in self._undecided(payload_digest):
                named.set_exception(Rejected(f"the receiver refused it: {why}", in_part=in_part))

    def _undecided(self, payload_digest: str) -> list[asyncio.Future[None]]:
        return [named for named in self._waiting.get(payload_digest, ()) if not named.done()]

    def link_lost(self) -> None:
        """The connection has ended."""
        for payload_digest in self._waiting:
            for named in self._undecided(payload_digest):
                named.set_exception(LinkLost(f"{self._name}: disconnected"))


def _why(error: ValueError) -> str:
    """What is wrong, without what was said: anybody may write to our topic, and it may be anything."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
