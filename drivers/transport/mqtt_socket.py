"""A connected socket for MQTT, with TLS or without. Everything here blocks: it is for a thread."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from drivers.transport.credentials import TlsFiles

if TYPE_CHECKING:
    from drivers.transport.mqtt_options import MqttOptions


def open_socket(options: MqttOptions) -> socket.socket:
    """Connect, and shake hands when there is TLS. Nothing stays open when it fails.

    Raises:
        OSError: It cannot be done, for whatever reason: name, route, port, certificate, time-out.
    """
    tls = options.tls.context() if isinstance(options.tls, TlsFiles) else options.tls
    sock = socket.create_connection((options.host, options.port), options.connect_timeout_s)
    try:
        # Small packets go at once: else a PUBACK may wait 40 ms for the peer's TCP acknowledgement.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls is not None:
            return tls.wrap_socket(sock, server_hostname=options.host)
    except BaseException:
        sock.close()
        raise
    return sock
