"""Readings over HTTP: `POST /readings` answers 200 once the pack is committed, `GET /health` says how it goes.

| answer | when |
| --- | --- |
| 200 | it is durable; the body names the pack |
| 400 | it is no pack of readings, or one that the database will never take; it is kept in `rejected`, the body names it and says why |
| 401 | the token is missing or wrong |
| 413 | it is too large |
| 415 | its Content-Encoding is neither gzip nor identity |
| 503 | the database did not commit, or not within ten seconds: try again |
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from aiohttp import web
from pydantic_core import to_json

from agent.receiver.packs import (
    PackTooLarge,
    Received,
    ReceivedLosses,
    Refused,
    unpack_aside,
    unpack_losses,
)
from agent.receiver.store import StoreError, Unstorable
from agent.sync.losses import CONTENT_TYPE as LOSSES
from agent.sync.senml import NotSenML

if TYPE_CHECKING:
    import ssl

    from agent.receiver.committer import Committer
    from agent.receiver.store import ReadingStore

_log = logging.getLogger(__name__)

BODY_BYTES_MAX = 1024 * 1024
"""Of a request's body, as sent."""
COMMIT_TIMEOUT_S = 10.0
"""Whoever posts is not kept waiting longer: the pack may be committed none the less, and the next post finds it there."""
_RETRY_AFTER_S = 5
_CLOSE_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class HttpListen:
    """Where to listen."""

    host: str
    port: int
    """0 takes a free one."""
    path: str = "/readings"
    token: str | None = None
    """What `Authorization: Bearer` must say; None lets everybody in."""
    tls: ssl.SSLContext | None = None


class HttpReceiver:
    """An HTTP server; an asynchronous context manager.

    Args:
        listen: Where.
        committer: Takes the packs.
        store: Asked about its health.
    """

    def __init__(self, listen: HttpListen, committer: Committer, store: ReadingStore) -> None:
        self.url = ""
        self._listen = listen
        self._committer = committer
        self._store = store
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        """Listen.

        Raises:
            OSError: The address cannot be had.
        """
        listen = self._listen
        app = web.Application(client_max_size=BODY_BYTES_MAX)
        app.router.add_post(listen.path, self._post)
        app.router.add_get("/health", self._health)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_TIMEOUT_S, auto_decompress=False)
        await runner.setup()
        try:
            site = web.TCPSite(runner, listen.host, listen.port, ssl_context=listen.tls)
            await site.start()
        except BaseException:
            await runner.cleanup()
            raise
        self._runner = runner
        host, port = runner.addresses[0][:2]
        host = f"[{host}]" if ":" in host else host
        self.url = f"{'https' if listen.tls else 'http'}://{host}:{port}{listen.path}"
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop listening; requests under way get two seconds."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        if not self._authorized(request):
            return _answer(401, error="the token is missing or wrong")
        encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in {"gzip", "identity", ""}:
            return _answer(415, error=f"Content-Encoding {encoding} is not understood: gzip or none")
        body = await request.read()  # beyond its limit it raises, and aiohttp answers 413
        try:
            pack: Received | ReceivedLosses | Refused
            if request.content_type == LOSSES:
                pack = unpack_losses(body)
            else:
                pack = await unpack_aside(body)
        except PackTooLarge as error:
            return _answer(413, error=str(error))
        except NotSenML as error:
            pack = Refused(_origin(request), body, str(error), error.in_part)
            _log.warning("receive: %s sent no pack: %s", request.remote, pack.reason)
        return await self._answer_to(pack, body, _origin(request))

    async def _answer_to(
        self, pack: Received | ReceivedLosses | Refused, body: bytes, origin: str
    ) -> web.Response:
        """The answer, once what it says is durable."""
        try:
            async with asyncio.timeout(COMMIT_TIMEOUT_S):
                try:
                    await asyncio.shield(await self._committer.submit(pack))
                except Unstorable as error:
                    _log.warning("receive: %s: what the database will never take: %s", origin, error)
                    pack = Refused(origin, body, str(error), in_part=True)
                    await asyncio.shield(await self._committer.submit(pack))
        except TimeoutError:
            return _answer(
                503, retry=True, error=f"the database did not commit within {COMMIT_TIMEOUT_S:g} s"
            )
        except StoreError as error:
            _log.error("receive: %s", error)
            return _answer(503, retry=True, error="the database did not commit")
        return _refusal(pack) if isinstance(pack, Refused) else _answer(200, acked=[pack.digest])

    async def _health(self, _request: web.Request) -> web.Response:
        try:
            statistics = await self._store.statistics()
        except StoreError as error:
            return _answer(503, status="failing", error=str(error))
        fault = self._committer.fault
        return _answer(
            200 if fault is None else 503,
            status="ok" if fault is None else "failing",
            error=fault,
            readings=statistics.readings,
            inserted=statistics.inserted,
            duplicates=statistics.duplicates,
            rejected=statistics.rejected,
        )

    def _authorized(self, request: web.Request) -> bool:
        if self._listen.token is None:
            return True
        given = request.headers.get("Authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._listen.token}".encode())


def _origin(request: web.Request) -> str:
    """Where a pack came from, as it is kept with one that is refused."""
    return f"{request.path} from {request.remote}"


def _refusal(pack: Refused) -> web.Response:
    """What will never be taken."""
    said = [(pack.digest, pack.reason)]
    return _answer(
        400,
        error=pack.reason,
        rejected=None if pack.in_part else said,
        rejected_in_part=said if pack.in_part else None,
    )


def _answer(code: int, *, retry: bool = False, **body: object) -> web.Response:
    headers = {"Retry-After": str(_RETRY_AFTER_S)} if retry else None
    said = {key: value for key, value in body.items() if value is not None}
    return web.Response(status=code, body=to_json(said), content_type="application/json", headers=headers)
