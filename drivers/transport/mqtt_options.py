"""How to reach a broker: plain values, no input or output."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import SplitResult, unquote, urlsplit

from drivers.transport.credentials import TlsFiles
from drivers.transport.secrecy import Secrecy

if TYPE_CHECKING:
    import ssl

DEFAULT_PORTS: Final = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}
"""By scheme; the last two are MQTT in a WebSocket."""
TLS_SCHEMES: Final = frozenset({"mqtts", "wss"})
WEBSOCKET_PATH: Final = "/mqtt"
"""Where most brokers have theirs."""
FLIGHT_MAX: Final = 100
"""Publishes outstanding at once. 100 reach 9.8 k/s; paho slows down beyond (1.3 k/s at 5,000)."""


@dataclass(frozen=True)
class MqttOptions:
    """One broker, and how to be its client.

    Args:
        host: Name or address.
        port: TCP port.
        client_id: Client identifier; empty lets the broker choose, which only a clean start may.
        protocol: 5, or 4 for MQTT 3.1.1.
        username: User name, if any; not shown, since some brokers take a token for one.
        password: Password, if any; never shown.
        secrecy: Knows what else must not be shown when the broker repeats it.
        tls: TLS by a ready context, or by files; None is plain TCP.
        websocket_path: Path and query of the WebSocket that carries MQTT; None carries it in TCP or TLS itself.
        keepalive_s: A dead link is noticed within twice this time, in seconds.
        clean_start: False takes up the session that the broker kept for `client_id`.
        session_expiry_s: How long the broker keeps the session after a disconnect, in seconds
            (MQTT 3.1.1 knows only 'not at all', 0, and 'for ever', above 0).
        receive_maximum: How many QoS 1 messages the broker may leave unacknowledged on us.
        packet_bytes_max: The largest packet we take, in bytes. MQTT 5: the broker leaves larger messages out. 3.1.1 has no
            way to say so: a larger one ends the connection.
        connect_timeout_s: For name, TCP, TLS and CONNACK together, in seconds.
    """

    host: str
    port: int = 1883
    client_id: str = ""
    protocol: Literal[4, 5] = 5
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    secrecy: Secrecy = field(default_factory=Secrecy, repr=False, compare=False)
    tls: ssl.SSLContext | TlsFiles | None = None
    websocket_path: str | None = None
    keepalive_s: int = 30
    clean_start: bool = True
    session_expiry_s: int = 0
    receive_maximum: int = 100
    packet_bytes_max: int = 4 << 20
    connect_timeout_s: float = 10.0

    def __post_init__(self) -> None:
        self.secrecy.know(self.password)
        if self.protocol not in (4, 5):
            raise ValueError(f"protocol must be 5 or 4 (for MQTT 3.1.1), not {self.protocol!r}")
        if not self.host:
            raise ValueError("host is empty")
        if not 0 < self.port < 65536:  # noqa: PLR2004 (TCP's range)
            raise ValueError(f"port must be 1 to 65535, not {self.port}")
        if not self.client_id and not (self.clean_start and self.session_expiry_s == 0):
            raise ValueError("a session that outlives its connection needs a client_id")
        if not 0 < self.receive_maximum < 65536:  # noqa: PLR2004 (MQTT's range)
            raise ValueError(f"receive_maximum must be 1 to 65535, not {self.receive_maximum}")

    @property
    def address(self) -> str:
        """`host:port`, for messages."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def options_from_url(url: str, **options: Any) -> MqttOptions:
    """Options for `mqtt://user:password@host:1883`, `mqtts://...`, `ws://host:9001/mqtt` or `wss://...`.

    Args:
        url: Scheme, host, and optionally user, password and port (percent-encoded where needed); for a WebSocket also
            path and query.
        **options: Further fields of `MqttOptions`; they win over what the URL says.

    Raises:
        ValueError: It is no such URL.
    """
    parts = urlsplit(url)
    if parts.scheme not in DEFAULT_PORTS:
        instead = f", not {parts.scheme}://" if "://" in url else ""
        raise ValueError(f"the URL must begin with mqtt://, mqtts://, ws:// or wss://{instead}")
    if not parts.hostname:
        raise ValueError("the URL names no host: mqtt://host:1883")
    port = port_of(parts) or DEFAULT_PORTS[parts.scheme]
    found: dict[str, Any] = {"host": parts.hostname, "port": port}
    if parts.scheme.startswith("ws"):
        found["websocket_path"] = _websocket_path(parts)
    elif parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError("the URL must end after the port: topics are given apart")
    if parts.username is not None:
        found["username"] = unquote(parts.username)
    if parts.password is not None:
        found["password"] = unquote(parts.password)
    if parts.scheme in TLS_SCHEMES:
        found["tls"] = TlsFiles()
    elif options.get("tls") is not None:
        raise ValueError("TLS settings need a URL that begins with mqtts:// or wss://")
    return MqttOptions(**(found | {name: value for name, value in options.items() if value is not None}))


def port_of(parts: SplitResult) -> int | None:
    """The port of a URL; None when it names none.

    Raises:
        ValueError: What it names is none.
    """
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port, behind the last colon, must be a number from 1 to 65535")
    return port


def _websocket_path(parts: SplitResult) -> str:
    """Path and query as they are asked for; `/mqtt` when there are none."""
    if parts.fragment:
        raise ValueError("the URL of a WebSocket has no fragment: leave out what follows #")
    path = parts.path or ("/" if parts.query else WEBSOCKET_PATH)
    asked = f"{path}?{parts.query}" if parts.query else path
    if not (asked.isascii() and asked.isprintable() and " " not in asked):
        raise ValueError("the path of a WebSocket must be percent-encoded")
    return asked
