"""Delivery over NATS JetStream: packs to `outstation.<device>.batch`, acknowledged by the stream or by a receiver.

The stream `OUTSTATION` is made by whoever takes from it (`outstation receive`); without one nobody answers, and the pack
waits. With `ack = "broker"` a pack carries its key as `Nats-Msg-Id`, so that a resend inside the stream's window is kept once.
With `ack = "receiver"` the stream's acknowledgement only says that the pack is on its way. It has no id then: a receiver acknowledges
what it is given, and is not given what the stream takes for a repetition, of ours or of another upstream that sends the same.

A connection is one of nats-py without its reconnection: when and where to come back is the sender's affair. Of several
servers one is chosen at chance, at each connection, the others being tried after it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from nats import errors
from nats.aio.client import Client
from nats.js import errors as js_errors

from agent.spine.errors import describe
from agent.sync.awaiting import AwaitedPacks
from agent.sync.certificates import certificate_error
from agent.sync.discretion import discreetly
from agent.sync.jetstream_errors import refusal
from agent.sync.losses import CONTENT_TYPE as LOSSES
from agent.sync.nats_client import close, forget, undisturbed
from agent.sync.subjects import STREAM, ack_subject, batch_subject, ledger_subject
from agent.sync.upstream import LinkBroken, LinkLost, Pack, Paused, RetryLater, TooLarge, UpstreamError
from drivers.transport.secrecy import Secrecy

if TYPE_CHECKING:
    from agent.sync.config import NatsUpstreamOptions

_log = logging.getLogger(__name__)

_PORT: Final = 4222
_CONNECT_TIMEOUT_S: Final = 10
_PING_S: Final = 10
_PINGS_MAX: Final = 2
_CLOSE_TIMEOUT_S: Final = 1.0

_OF_HEARING = "permissions violation for subscription"
_OF_THE_MESSAGE: Final = re.compile("maximum payload|parser error", re.IGNORECASE)
"""What a server complains of before it ends a connection because of what it got."""


class NatsUpstream:
    """One server or cluster, and perhaps a receiver behind it.

    Args:
        options: As configured.
        device_id: Names the subjects.
        rng: Chooses the server.
    """

    lasting = True

    def __init__(
        self, options: NatsUpstreamOptions, device_id: str, rng: random.Random | None = None
    ) -> None:
        self.name = options.url
        self.max_payload_bytes = options.message_size
        self.max_in_flight = options.in_flight
        self._options = options
        self._device_id = device_id
        self._rng = rng or random.Random()  # noqa: S311 (which server is no secret)
        self._client: Client | None = None
        self._closed = asyncio.Event()
        self._awaited = AwaitedPacks(self.name)
        self._complaint: str | None = None
        self._deaf: str | None = None
        """Why no receiver can be heard: the server says so beside, often only after it has answered to all that was asked."""
        self._secrecy = Secrecy()

    async def connect(self) -> None:
        """Connect to one of the servers, and subscribe to the receiver's acknowledgements.

        Raises:
            UpstreamError: There is no connection.
        """
        await self.disconnect()
        with discreetly(self._secrecy):
            await self._connect()

    async def _connect(self) -> None:
        try:
            credentials = await asyncio.to_thread(self._credentials)
            tls = (
                await asyncio.to_thread(self._options.certificates().context)
                if self._options.secure
                else None
            )
        except (OSError, ValueError) as error:
            raise Paused(f"credentials cannot be read: {error}") from error
        servers = self._options.servers()
        self._rng.shuffle(servers)
        failure: UpstreamError | None = None
        for server in servers:
            try:
                await self._connect_to(server, credentials, tls)
            except UpstreamError as error:
                failure = error
            else:
                return
        assert failure is not None
        raise failure

    async def _connect_to(self, server: str, credentials: dict[str, Any], tls: ssl.SSLContext | None) -> None:
        self._complaint = self._deaf = None
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await _require_listener(server)
        except OSError as error:
            raise self._connect_error(server, error) from error
        client, closed = Client(), asyncio.Event()
        try:
            await undisturbed(self._open(client, server, closed, credentials, tls), _CONNECT_TIMEOUT_S)
        except BaseException as error:
            await close(client, _CLOSE_TIMEOUT_S)
            if isinstance(error, (errors.Error, OSError)) and not isinstance(error, UpstreamError):
                raise self._connect_error(server, error) from error
            raise
        self._client, self._closed = client, closed

    async def _open(
        self,
        client: Client,
        server: str,
        closed: asyncio.Event,
        credentials: dict[str, Any],
        tls: ssl.SSLContext | None,
    ) -> None:
        async def on_closed() -> None:
            closed.set()

        await client.connect(
            server,
            name=f"outstation {self._device_id}",
            allow_reconnect=False,
            max_reconnect_attempts=0,
            connect_timeout=_CONNECT_TIMEOUT_S,
            ping_interval=_PING_S,
            max_outstanding_pings=_PINGS_MAX,
            error_cb=self._on_error,
            closed_cb=on_closed,
            tls=tls,
            tls_hostname=None if tls is None else urlsplit(server).hostname,
            **credentials,
        )
        if self._options.ack == "receiver":
            await client.subscribe(ack_subject(self._device_id), cb=self._on_acknowledgement)
            await client.flush(_CONNECT_TIMEOUT_S)
            self._require_hearing(server)

    def _connect_error(self, server: str, error: Exception) -> UpstreamError:
        said = f"{server}: {self._complaint or _words(error)}"
        if isinstance(error, ssl.SSLCertVerificationError):
            return certificate_error(server, error)
        if isinstance(error, errors.AuthorizationError) or "authorization" in said.lower():
            return Paused(f"{said}: check the credentials")
        if isinstance(error, errors.SecureConnRequiredError):
            return Paused(f"{said}: write the url with tls://")
        if isinstance(error, TimeoutError):
            return RetryLater(f"{server}: no connection within {_CONNECT_TIMEOUT_S} s")
        return RetryLater(said)

    def _credentials(self) -> dict[str, Any]:
        """In a thread: reads secrets."""
        options = self._options
        if (token := self._secrecy.read(options.token)) is not None:
            return {"token": token}
        if options.username is None:
            return {}
        return {"user": options.username, "password": self._secrecy.read(options.password) or ""}

    async def disconnect(self) -> None:
        """Close the connection within a second; what waits for an acknowledgement gets LinkLost."""
        client, self._client = self._client, None
        self._awaited.link_lost()
        if client is not None:
            await close(client, _CLOSE_TIMEOUT_S)

    async def lost(self) -> None:
        """Return when the connection has ended."""
        await self._closed.wait()
        self._awaited.link_lost()

    async def send(self, pack: Pack) -> None:
        """Publish one pack; returns when it is acknowledged.

        Raises:
            UpstreamError: It is not; the class says what is to be done.
        """
        with discreetly(self._secrecy):
            await self._send(pack)

    async def _send(self, pack: Pack) -> None:
        client = self._client
        if client is None or client.is_closed:
            raise LinkLost(f"{self.name}: not connected")
        if self._options.ack == "broker":
            await self._publish(client, pack, {"Nats-Msg-Id": pack.key})
            return
        self._require_hearing(self.name)
        with self._awaited.awaited(pack) as named:
            await self._publish(client, pack, {})
            try:
                async with asyncio.timeout(self._options.ack_timeout):
                    await named
            except TimeoutError as error:
                self._require_hearing(self.name)
                raise RetryLater(
                    f"{self.name}: the stream has it, but no receiver acknowledged within"
                    f' {self._options.ack_timeout:g} s: is `outstation receive` running? Without one, set ack = "broker"'
                ) from error

    async def _publish(self, client: Client, pack: Pack, headers: dict[str, str]) -> None:
        subject = (ledger_subject if pack.content_type == LOSSES else batch_subject)(self._device_id)
        headers["Content-Type"] = pack.content_type
        if pack.content_encoding is not None:
            headers["Content-Encoding"] = pack.content_encoding
        answer = asyncio.ensure_future(
            client.jetstream().publish(
                subject, pack.payload, timeout=self._options.ack_timeout, headers=headers
            )
        )
        closed = asyncio.ensure_future(self._closed.wait())
        try:
            await asyncio.wait((answer, closed), return_when=asyncio.FIRST_COMPLETED)
        finally:
            closed.cancel()
            answer.cancel()
            answer.add_done_callback(forget)
        if not answer.done() or answer.cancelled():
            complaint = self._complaint or ""
            kind = LinkBroken if _OF_THE_MESSAGE.search(complaint) else LinkLost
            raise kind(f"{self.name}: the connection was lost{f' ({complaint})' if complaint else ''}")
        try:
            answer.result()
        except (errors.Error, OSError) as error:
            raise self._publish_error(subject, error) from error
        except (ValueError, TypeError, KeyError) as error:  # what nats-py makes of an answer of another kind
            raise RetryLater(
                f"{self.name}: what answers on {subject} is not JetStream: {describe(error)}"
            ) from error
        self._complaint = None

    def _publish_error(self, subject: str, error: Exception) -> UpstreamError:
        said = f"{self.name}: {_words(error)}"
        if isinstance(error, errors.MaxPayloadError):
            return TooLarge(said)
        if isinstance(error, (js_errors.NoStreamResponseError, errors.NoRespondersError)):
            return RetryLater(f"{self.name}: no stream takes {subject}; `outstation receive` makes {STREAM}")
        if isinstance(error, js_errors.APIError):
            return refusal(self.name, error.code, error.err_code, error.description)
        if isinstance(error, (errors.TimeoutError, TimeoutError)):
            if self._forbidden:
                return Paused(f"{self.name}: {self._complaint}")
            return RetryLater(
                f"{self.name}: no answer from the stream within {self._options.ack_timeout:g} s"
            )
        return LinkLost(said)

    def _require_hearing(self, server: str) -> None:
        if self._deaf is not None:
            raise Paused(f"{server}: {self._deaf}")

    @property
    def _forbidden(self) -> bool:
        """Whether this user may not do what we ask for: the server says so beside, and answers nothing."""
        return "permissions" in (self._complaint or "").lower()

    async def _on_acknowledgement(self, message: Any) -> None:
        self._awaited.heard(message.data)

    async def _on_error(self, error: Exception) -> None:
        self._complaint = self._secrecy.hide(_words(error))
        if _OF_HEARING in self._complaint.lower():
            self._deaf = self._complaint
        _log.debug("sync: %s: %s", self.name, self._complaint)


async def _require_listener(server: str) -> None:
    """See that somebody listens, since nats-py knocks for ten seconds where nobody does. Raises OSError."""
    parts = urlsplit(server)
    _, writer = await asyncio.open_connection(parts.hostname, parts.port or _PORT)
    writer.transport.abort()


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__).removeprefix("nats: ")
