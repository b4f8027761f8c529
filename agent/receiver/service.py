"""`outstation receive`: from where to where, until cancelled."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from agent.receiver.committer import Committer
from agent.receiver.store import ReadingStore, store_for
from collectors.clock import Clock, SystemClock

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from agent.receiver.http import HttpListen
    from drivers.transport.mqtt import MqttOptions

HTTP_PORT = 8080
DEFAULT_CLIENT_ID = "outstation-receiver"


@dataclass(frozen=True, slots=True)
class ReceiverSecurity:
    """Credentials and certificates, already read."""

    token: str | None = None
    """Of the HTTP server."""
    http_tls: ssl.SSLContext | None = None
    """Its certificate and key (a server-side context)."""
    mqtt_username: str | None = None
    mqtt_password: str | None = None
    mqtt_tls: ssl.SSLContext | None = None


async def serve(
    from_urls: Sequence[str],
    into_url: str,
    *,
    security: ReceiverSecurity | None = None,
    client_id: str = DEFAULT_CLIENT_ID,
    on_ready: Callable[[Sequence[str]], None] = lambda _: None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
) -> None:
    """Receive readings until cancelled.

    Args:
        from_urls: `http://host:port[/path]` to listen on, `mqtt://host:port` or `mqtts://` to connect to.
        into_url: `sqlite:///file.db`.
        security: Credentials and certificates.
        client_id: The MQTT session: a receiver that takes up another's work uses the same.
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
    brokers = [
        _mqtt_options(url, security, client_id) for url in from_urls if _scheme(url) in {"mqtt", "mqtts"}
    ]
    if len(listens) + len(brokers) < max(1, len(from_urls)):
        raise ValueError("`from` should be http://host:port, mqtt://host:port or mqtts://host:port")
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(store)
        committer = Committer(store)
        addresses = await _listen(listens, committer, store, stack)
        await _run(brokers, committer, addresses, on_ready, clock, rng or random.Random())  # noqa: S311 (jitter)


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
    brokers: Sequence[MqttOptions],
    committer: Committer,
    addresses: list[str],
    on_ready: Callable[[Sequence[str]], None],
    clock: Clock,
    rng: random.Random,
) -> None:
    waiting = {options.address for options in brokers}

    def subscribed(address: str) -> None:
        if address in waiting:
            waiting.discard(address)
            addresses.append(address)
            if not waiting:
                on_ready(tuple(addresses))

    async with asyncio.TaskGroup() as group:
        group.create_task(committer.run(), name="receive-commit")
        for options in brokers:
            from agent.receiver.mqtt import MqttReceiver

            receiver = MqttReceiver(options, committer, clock, rng)
            run = receiver.run(lambda address=options.address: subscribed(address))  # type: ignore[misc]
            group.create_task(run, name=f"receive-mqtt:{options.address}")
        if not brokers:
            on_ready(tuple(addresses))


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


def _mqtt_options(url: str, security: ReceiverSecurity, client_id: str) -> MqttOptions:
    from agent.receiver.mqtt import RECEIVE_MAXIMUM, SESSION_EXPIRY_S
    from drivers.transport.mqtt import options_from_url

    return options_from_url(
        url,
        client_id=client_id,
        username=security.mqtt_username,
        password=security.mqtt_password,
        tls=security.mqtt_tls,
        clean_start=False,
        session_expiry_s=SESSION_EXPIRY_S,
        receive_maximum=RECEIVE_MAXIMUM,
    )
