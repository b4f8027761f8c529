"""Delivery over HTTP(S), to InfluxDB and ThingsBoard too: one POST a pack, one at a time, so that the order is kept.

| answer | what it means |
| --- | --- |
| 2xx | acknowledged (from InfluxDB and ThingsBoard: when it is empty, else pause; with `ack = "receiver"`: when it names the pack, else pause) |
| 408, 425, 429, 5xx | retry, not before Retry-After |
| 413 | cut the batch |
| 401, 403, 407 | pause: the credentials are wrong |
| 3xx, 404, 405, 410 | pause: the address is wrong. No redirect is followed: a POST would become a GET, and a log-in page's 200 is no acknowledgement |
| 400, 422 | something in this pack is what the other end will never take: it is looked for (with `ack = "receiver"`: as below) |
| other 4xx | the other end will never take this pack (with `ack = "receiver"`: when it names the pack, else pause) |
"""

from __future__ import annotations

import asyncio
from base64 import b64encode
from datetime import UTC
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import aiohttp
from pydantic_core import from_json

from agent.sync.acknowledgement import Acknowledgement
from agent.sync.certificates import certificate_error
from agent.sync.discretion import discreetly
from agent.sync.upstream import LinkLost, Pack, Paused, Rejected, RetryLater, TooLarge, UpstreamError
from drivers.transport.secrecy import Secrecy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.sync.config import HttpUpstreamOptions
    from collectors.clock import Clock

_RETRY = frozenset({408, 425, 429})
_CREDENTIALS = frozenset({401, 403, 407})
_ADDRESS = frozenset({404, 405, 410})
_SAY_NOTHING = frozenset({"influxdb", "thingsboard"})
"""Clouds whose success has no body: one that has is not theirs."""
_CONTENT = frozenset({400, 422})
"""Of a batch with one line that InfluxDB cannot take, it takes none, or all others."""
_TYPE_CONFLICTS = (b"field type conflict", b"invalid column type")
"""What InfluxDB 1 and 2, and 3, say of a field that has another type already."""
_TYPE_CONFLICT_REMEDY = (
    ": a field has one type in a bucket, the one that came first: give the metric of one of the sources another name "
    "(`select` with `rename`), or write to another bucket"
)
_TOO_LARGE = 413
_REASON_LENGTH_MAX = 400
"""How much of an answer is worth showing."""
_LOOKED_AT_BYTES = 4096
"""How much of it is looked at for that."""
_ANSWER_BYTES_MAX = 64 * 1024
_CONNECT_TIMEOUT_S = 10.0
_KEY_LENGTH_MIN = 8
"""What is as long as this in the query of a url may be a key."""


class HttpUpstream:
    """One URL that takes packs.

    Args:
        options: As configured.
        clock: Tells how far away the date in a Retry-After is.
    """

    lasting = False
    max_in_flight = 1

    def __init__(self, options: HttpUpstreamOptions, clock: Clock) -> None:
        parts = urlsplit(options.url)
        self.name = f"{parts.scheme}://{parts.netloc}{parts.path}"
        self.max_payload_bytes = options.message_size
        self._options = options
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self._authorization: str | None = None
        self._secrecy = Secrecy()
        self._address = options.url
        """Where to post: with ThingsBoard, a secret."""

    async def connect(self) -> None:
        """Read credentials and certificates, and see that somebody listens at the other end.

        What is sent before the link is back would be given its final time too early.

        Raises:
            UpstreamError: Nobody does, or the credentials cannot be read.
        """
        await self.disconnect()
        with discreetly(self._secrecy):
            await self._connect()

    async def _connect(self) -> None:
        try:
            await asyncio.to_thread(self._read_credentials)
            tls = (
                await asyncio.to_thread(self._options.certificates().context)
                if self._options.secure
                else True
            )
        except (OSError, ValueError) as error:
            raise Paused(f"credentials cannot be read: {error}") from error
        await self._require_listener()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=self.max_in_flight, ssl=tls),
            timeout=aiohttp.ClientTimeout(total=self._options.timeout, connect=_CONNECT_TIMEOUT_S),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def _require_listener(self) -> None:
        parts = urlsplit(self._options.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                _, writer = await asyncio.open_connection(parts.hostname, port)
        except TimeoutError:
            raise RetryLater(f"{self.name}: no connection within {_CONNECT_TIMEOUT_S:g} s") from None
        except OSError as error:
            raise RetryLater(f"{self.name}: {str(error) or type(error).__name__}") from error
        writer.transport.abort()  # nothing was sent that could be lost

    async def disconnect(self) -> None:
        """Close what is open."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def lost(self) -> None:
        """Never returns: each request is a connection of its own."""
        await asyncio.Event().wait()

    async def send(self, pack: Pack) -> None:
        """POST one pack; returns when the server has acknowledged it.

        Raises:
            UpstreamError: It has not; the class says what is to be done.
        """
        with discreetly(self._secrecy):
            await self._send(pack)

    async def _send(self, pack: Pack) -> None:
        session = self._session
        if session is None:
            raise LinkLost(f"{self.name}: not connected")
        try:
            async with session.post(
                self._address,
                data=pack.payload,
                headers=self._headers(pack),
                allow_redirects=False,
            ) as answer:
                body = await _some_of(answer)
                error = self._judge(answer.status, answer.headers, body, pack)
        except aiohttp.ClientConnectorCertificateError as failed:
            raise certificate_error(self.name, failed.certificate_error) from failed
        except TimeoutError as failed:
            raise RetryLater(f"{self.name}: no answer within {self._options.timeout:g} s") from failed
        except (aiohttp.ClientError, OSError) as failed:
            raise RetryLater(f"{self.name}: {str(failed) or type(failed).__name__}") from failed
        if isinstance(error, Paused):
            await self._read_credentials_again()
        if error is not None:
            raise error

    def _headers(self, pack: Pack) -> dict[str, str]:
        headers = {
            "Content-Type": pack.content_type,
            "Idempotency-Key": pack.key,
            "Accept-Encoding": "identity",  # a reason is short, and to be read
        }
        if pack.content_encoding is not None:
            headers["Content-Encoding"] = pack.content_encoding
        if self._authorization is not None:
            headers["Authorization"] = self._authorization
        return headers

    def _judge(
        self, status: int, headers: Mapping[str, str], body: bytes, pack: Pack
    ) -> UpstreamError | None:
        """What an answer means; None is an acknowledgement."""
        what = f"{self.name}: {status} {_phrase(status)}".rstrip()
        if 200 <= status < 300:  # noqa: PLR2004 (success, RFC 9110 section 15.3)
            return self._judge_success(what, body, pack)
        said = f"{what}{self._excerpt(body)}"
        if status in _RETRY or status >= 500:  # noqa: PLR2004 (server error, section 15.6)
            return RetryLater(said, retry_after_s=retry_after_s(headers.get("Retry-After"), self._clock))
        if status in _CREDENTIALS:
            return Paused(f"{said}: check the credentials")
        if status in _ADDRESS or status < 400:  # noqa: PLR2004 (redirection, section 15.4)
            place = self._secrecy.hide(headers.get("Location", ""))[:_REASON_LENGTH_MAX]
            return Paused(f"{said}: check the url{f', the server points to {place}' if place else ''}")
        if status == _TOO_LARGE:
            return TooLarge(said)
        if self._options.format == "influx" and any(sign in body.lower() for sign in _TYPE_CONFLICTS):
            said += _TYPE_CONFLICT_REMEDY
        by_server = Rejected(said, in_part=status in _CONTENT)
        return by_server if self._options.ack == "server" else _named(body, pack, said)

    def _judge_success(self, what: str, body: bytes, pack: Pack) -> UpstreamError | None:
        if self._options.ack == "receiver":
            return _named(body, pack, what)
        if self._options.preset in _SAY_NOTHING and body.strip():
            strange = f"{what}{self._excerpt(body)}, where {self._options.preset} would say nothing"
            return Paused(f"{strange}: is there a log-in page of the network, or is the url wrong?")
        return None

    def _excerpt(self, body: bytes) -> str:
        """The beginning of what a server says; what is secret is hidden before the rest is cut off."""
        said = " ".join(body[:_LOOKED_AT_BYTES].decode("utf-8", "replace").split())
        text = self._secrecy.hide(said)[:_REASON_LENGTH_MAX]
        return f" ({text})" if text.isprintable() and text else ""

    def _read_credentials(self) -> None:
        """In a thread: sets where to post and what to say, as credentials are now."""
        self._address = address_of(self._options, self._secrecy)
        self._authorization = authorization_of(self._options, self._secrecy)

    async def _read_credentials_again(self) -> None:
        """They may have been changed since: the next attempt shall use the new ones."""
        try:
            await asyncio.to_thread(self._read_credentials)
        except (OSError, ValueError):
            return  # the old ones are as good as any; the pause is already being told


def authorization_of(options: HttpUpstreamOptions, secrecy: Secrecy) -> str | None:
    """The header that lets us in, which is a secret from then on; None for none. Reads it: blocks.

    Raises:
        SecretError: It cannot be read.
        ValueError: It is nothing that a header can hold.
    """
    if options.preset != "thingsboard" and (token := secrecy.read(options.token)) is not None:
        if not token.isprintable():
            raise ValueError("the token holds a line break or the like: is it the right one?")
        return f"{'Token' if options.preset == 'influxdb' else 'Bearer'} {token}"
    if options.username is None:
        return None
    pair = f"{options.username}:{secrecy.read(options.password) or ''}"
    encoded = b64encode(pair.encode()).decode("ascii")
    secrecy.know(encoded)
    return f"Basic {encoded}"


def address_of(options: HttpUpstreamOptions, secrecy: Secrecy) -> str:
    """Where packs are posted: the url, completed where its preset knows how; with ThingsBoard, a secret. Blocks.

    Raises:
        SecretError: The secret cannot be read.
    """
    parts = urlsplit(options.url)
    path, query = parts.path, parts.query
    if options.preset == "influxdb" and path in {"", "/"}:
        path = "/api/v2/write"
    if options.preset == "thingsboard":
        path = f"{path.rstrip('/')}/api/v1/{quote(secrecy.read(options.token) or '', safe='')}/telemetry"
    given = parse_qsl(query, keep_blank_values=True)
    if options.format == "influx":
        named = {"org": options.org, "bucket": options.bucket, "precision": "ns"}
        ours = [(name, value) for name, value in named.items() if value is not None]
        taken = {name for name, _ in ours}
        query = urlencode([pair for pair in given if pair[0] not in taken] + ours)
    secrecy.know(*(value for _, value in given if len(value) >= _KEY_LENGTH_MIN))
    return parts._replace(path=path, query=query, fragment="").geturl()


def harmless(options: HttpUpstreamOptions, address: str) -> tuple[str, str]:
    """Method and address of a request that shows whether we are let in, and sends no reading.

    InfluxDB looks at token, organisation and bucket before it misses the lines in a write of none; ThingsBoard looks at the token when it
    is asked for attributes, and at a HEAD never.
    """
    if options.format == "influx":
        return "POST", address
    if options.preset == "thingsboard":
        return "GET", f"{address.removesuffix('/telemetry')}/attributes?sharedKeys=outstation"
    return "HEAD", address


def retry_after_s(value: str | None, clock: Clock) -> float | None:
    """How long a Retry-After asks to wait (RFC 9110, section 10.2.3), or None when it says nothing we understand."""
    if value is None:
        return None
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) < 10 else None  # noqa: PLR2004 (30 years are enough)
    try:
        when = parsedate_to_datetime(value)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - clock.now()).total_seconds())


async def _some_of(answer: aiohttp.ClientResponse) -> bytes:
    """The beginning of an answer's body; more is not worth the memory."""
    found = bytearray()
    async for chunk in answer.content.iter_chunked(4096):
        found += chunk
        if len(found) >= _ANSWER_BYTES_MAX:
            break
    return bytes(found[:_ANSWER_BYTES_MAX])


def _named(body: bytes, pack: Pack, what: str) -> UpstreamError | None:
    """What a receiver's answer says of exactly this pack; something else between that answers knows nothing of it."""
    try:
        said = Acknowledgement.model_validate(from_json(body))
    except ValueError:
        said = Acknowledgement()
    for payload_digest, why, in_part in said.refusals:
        if payload_digest == pack.digest:
            return Rejected(f"the receiver refused it: {why}", in_part=in_part)
    if pack.digest in said.acked:
        return None
    return Paused(f"{what}, but the answer does not name the pack: is it `outstation receive`?")


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
