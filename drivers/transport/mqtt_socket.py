"""A connected socket for MQTT: TCP, with TLS or without, in a WebSocket or not. Everything here blocks: it is for a thread."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

from drivers.transport.credentials import TlsFiles
from drivers.transport.mqtt_options import DEFAULT_PORTS
from drivers.transport.websocket_stream import WebSocketStream

if TYPE_CHECKING:
    from drivers.transport.mqtt_options import MqttOptions
    from drivers.transport.tls import TlsStream


def open_socket(options: MqttOptions) -> socket.socket | TlsStream | WebSocketStream:
    """Connect, and shake hands where there is TLS or a WebSocket. Nothing stays open when it fails.

    Raises:
        OSError: It cannot be done, for whatever reason: name, route, port, certificate, upgrade, time-out.
    """
    tls = options.tls.context() if isinstance(options.tls, TlsFiles) else options.tls
    sock: socket.socket | TlsStream
    sock = plain = socket.create_connection(
        (_resolvable(options.host), options.port), options.connect_timeout_s
    )
    try:
        # Small packets go at once: else a PUBACK may wait 40 ms for the peer's TCP acknowledgement.
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            from drivers.transport.tls import TlsStream  # loads OpenSSL

            sock = TlsStream(plain, tls, options.host)
        if options.websocket_path is None:
            return sock
        usual = options.port == DEFAULT_PORTS["ws" if tls is None else "wss"]
        return WebSocketStream(sock, options.host if usual else options.address, options.websocket_path)
    except BaseException:
        sock.close()
        raise


def _resolvable(host: str) -> Any:
    """A name as the resolver takes it. Python would load the tables of Unicode to encode a name of ASCII alone."""
    return host.encode() if host.isascii() else host
