"""`outstation receive`: from where to where, until cancelled."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import unquote, urlsplit

from agent.receiver.committer import RETRY, Committer
from agent.receiver.exposition import MetricsServer, watch_gaps
from agent.receiver.store import ReadingStore, StoreUnavailable, store_for
from agent.spine.backoff import Backoff
from collectors.clock import Clock, SystemClock
from drivers.transport.mqtt_options import MqttOptions, options_from_url

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from agent.receiver.http import HttpListen
    from agent.receiver.nats import NatsOptions

_log = logging.getLogger(__name__)

_BROKERS = frozenset({"mqtt", "mqtts", "nats", "tls"})
HTTP_PORT = 8080
PORT_MAX = 65535
DEFAULT_CLIENT_ID = "outstation-receiver"


@dataclass(frozen=True, slots=True)
class ReceiverSecurity:
    """Credentials and certificates, already read."""

    token: str | None = None
    """Of the HTTP server."""
    http_tls: ssl.SSLContext | None = None
    """Its certificate and key (a server-side context)."""
    username: str | None = None
    """At the broker, as the two below."""
    password: str | None = None
    tls: ssl.SSLContext | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """Under which a receiver takes from a broker."""

    client_id: str
    share: str | None
    replicas: int


class Receiver(Protocol):
    """Takes packs from one broker."""

    async def run(self, ready: Callable[[], None]) -> None:
        """Receive until cancelled; `ready` is called each time that packs may come."""
        ...


async def serve(
    from_urls: Sequence[str],
    into_url: str,
    *,
    security: ReceiverSecurity | None = None,
    client_id: str = DEFAULT_CLIENT_ID,
    share: str | None = None,
    replicas: int = 1,
    metrics: str | None = None,
    on_ready: Callable[[Sequence[str]], None] = lambda _: None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> None:
    """Receive readings until cancelled.

    Args:
        from_urls: `http://host:port[/path]` to listen on, `mqtt://host:port` or `mqtts://`, `nats://host:port,host:port` or
            `tls://` to connect to.
        into_url: `sqlite:///file.db` or `postgresql://host/database`, which is waited for when it is away.
        security: Credentials and certificates.
        client_id: The session at the broker: a receiver that takes up another's work uses the same.
        share: The name under which several receivers share the work; each has its own client id.
        replicas: Of the JetStream stream, when it has to be made.
        metrics: `HOST:PORT` where Prometheus may ask; None: nowhere.
        on_ready: Called once with the addresses, as soon as the database is open, HTTP listens and the
            broker's subscription stands.
        clock: The clock.
        rng: Chance, for the back-off.

    Raises:
        ValueError: A URL is not understood.
        OSError: The database or an address to listen on cannot be had.
        ImportError: What a URL needs is not installed.
    """
    security = security or ReceiverSecurity()
    clock = clock or SystemClock()
    store = store_for(into_url, clock)
    listens = [_http_listen(url, security) for url in from_urls if _scheme(url) in {"http", "https"}]
    brokers = [url for url in from_urls if _scheme(url) in _BROKERS]
    if len(listens) + len(brokers) < max(1, len(from_urls)):
        raise ValueError(
            "`from` should be http://host:port, mqtt://host:port, mqtts://host:port, nats://host:port or tls://host:port"
        )
    names = Names(client_id, share, replicas)
    options = [_broker_options(url, security, names) for url in brokers]
    rng = rng or random.Random()  # noqa: S311 (jitter)
    async with AsyncExitStack() as stack:
        await _open(store, stack, clock, rng)
        committer = Committer(store, clock, rng)
        addresses = await _listen(listens, committer, store, stack)
        receivers = {each.address: _receiver(each, committer, clock, rng, share) for each in options}
        watching = None
        if metrics is not None:
            server = MetricsServer(*_host_and_port(metrics), committer.meter)
            addresses.append((await stack.enter_async_context(server)).url)
            watching = watch_gaps(store_for(into_url, clock), committer.meter)
        await _run(receivers, committer, watching, addresses, on_ready)


async def _open(store: ReadingStore, stack: AsyncExitStack, clock: Clock, rng: random.Random) -> None:
    """Open the database; one that is away is waited for: after a power cut both may start together."""
    backoff = Backoff(RETRY, rng)
    told = False
    while True:
        try:
            await stack.enter_async_context(store)
        except StoreUnavailable as error:
            if not told:
                _log.warning("receive: the database is away, and waited for: %s", error)
            told = True
            await asyncio.sleep(backoff.delay_s(clock.monotonic_s()))
        else:
            return


async def _listen(
    listens: Sequence[HttpListen], committer: Committer, store: ReadingStore, stack: AsyncExitStack
) -> list[str]:
    addresses = []
    for listen in listens:
        from agent.receiver.http import HttpReceiver

        receiver = await stack.enter_async_context(HttpReceiver(listen, committer, store))
        addresses.append(receiver.url)
    return addresses


async def _run(
    receivers: Mapping[str, Receiver],
    committer: Committer,
    watching: Coroutine[None, None, None] | None,
    addresses: list[str],
    on_ready: Callable[[Sequence[str]], None],
) -> None:
    waiting = set(receivers)

    def subscribed(address: str) -> None:
        if address in waiting:
            waiting.discard(address)
            addresses.append(address)
            if not waiting:
                on_ready(tuple(addresses))

    async with asyncio.TaskGroup() as group:
        group.create_task(committer.run(), name="receive-commit")
        if watching is not None:
            group.create_task(watching, name="receive-gaps")
        for address, receiver in receivers.items():
            run = receiver.run(partial(subscribed, address))
            group.create_task(run, name=f"receive:{address}")
        if not receivers:
            on_ready(tuple(addresses))


def _receiver(
    options: MqttOptions | NatsOptions,
    committer: Committer,
    clock: Clock,
    rng: random.Random,
    share: str | None,
) -> Receiver:
    if isinstance(options, MqttOptions):
        from agent.receiver.mqtt import MqttReceiver

        return MqttReceiver(options, committer, clock, rng, share=share)
    from agent.receiver.nats import NatsReceiver

    return NatsReceiver(options, committer, clock, rng)


def _host_and_port(address: str) -> tuple[str, int]:
    host, found, port = address.rpartition(":")
    if not found or not host or not port.isdecimal() or int(port) > PORT_MAX:
        raise ValueError(f"{address!r} is not HOST:PORT, such as 127.0.0.1:9464")
    return host.strip("[]"), int(port)


def _scheme(url: str) -> str:
    return urlsplit(url).scheme


def _http_listen(url: str, security: ReceiverSecurity) -> HttpListen:
    try:
        from agent.receiver.http import HttpListen
    except ImportError as error:
        raise ImportError('receiving over HTTP needs aiohttp: pip install "outstation[http]"') from error
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError(f"{url} names no host: http://0.0.0.0:{HTTP_PORT} listens on all addresses")
    tls = parts.scheme == "https"
    if tls and security.http_tls is None:
        raise ValueError(f"{url} needs a certificate and a key")
    return HttpListen(
        host=parts.hostname,
        port=HTTP_PORT if parts.port is None else parts.port,
        path=parts.path if parts.path.strip("/") else "/readings",
        token=security.token,
        tls=security.http_tls if tls else None,
    )


def _broker_options(url: str, security: ReceiverSecurity, names: Names) -> MqttOptions | NatsOptions:
    if _scheme(url) in {"nats", "tls"}:
        return _nats_options(url, security, names)
    return _mqtt_options(url, security, names.client_id)


def _mqtt_options(url: str, security: ReceiverSecurity, client_id: str) -> MqttOptions:
    from agent.receiver.mqtt import RECEIVE_MAXIMUM, SESSION_EXPIRY_S

    return options_from_url(
        url,
        client_id=client_id,
        username=security.username,
        password=security.password,
        tls=security.tls,
        clean_start=False,
        session_expiry_s=SESSION_EXPIRY_S,
        receive_maximum=RECEIVE_MAXIMUM,
    )


def _nats_options(url: str, security: ReceiverSecurity, names: Names) -> NatsOptions:
    try:
        from agent.receiver.nats import NatsOptions
    except ImportError as error:
        raise ImportError('receiving over NATS needs nats-py: pip install "outstation[nats]"') from error
    parts = urlsplit(url)
    user, _, hosts = parts.netloc.rpartition("@")
    if not all(hosts.split(",")):
        raise ValueError(f"{parts.scheme}://{hosts} names no host: nats://host:port[,host:port]")
    if ":" in user:
        raise ValueError("the password belongs into --password-file, not into the URL")
    return NatsOptions(
        servers=tuple(f"{parts.scheme}://{host}" for host in hosts.split(",")),
        consumer=names.share or names.client_id,
        shared=names.share is not None,
        replicas=names.replicas,
        username=security.username or unquote(user) or None,
        password=security.password,
        tls=security.tls or (ssl.create_default_context() if parts.scheme == "tls" else None),
    )
