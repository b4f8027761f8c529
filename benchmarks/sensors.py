"""The load: MQTT sensors that publish at QoS 1, in a process of their own.

    python -m benchmarks.sensors --port 1883

It speaks MQTT 3.1.1 on a plain socket, many messages a write and many PUBACKs a read: about 5 us a message,
so that it is not what is measured. It publishes as many messages as it is allowed: each line on stdin is
a new total. At the end of stdin it waits for the last PUBACK and prints how many it has published.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import sys

SENSORS = 20
_WINDOW = 1000
"""Messages that the broker has not acknowledged, at most."""
_WRITE_MESSAGES = 100
_PUBLISH_QOS1, _PUBACK_BYTES, _CONNACK_BYTES = 0x32, 4, 4
_DISCONNECT = b"\xe0\x00"


def topic(number: int) -> str:
    """The topic of one sensor."""
    return f"sensors/s{number:02}"


def payload(count: int) -> bytes:
    """What a sensor says: a counter and two noisy values, as JSON."""
    return b'{"n":%d,"temperature":%.2f,"humidity":%.1f}' % (
        count,
        20 + (count * 7919 % 500) / 100,
        50 + (count * 104729 % 200) / 10,
    )


def publish_packet(count: int) -> bytes:
    """The PUBLISH of message number `count`; below 128 bytes, so that its length takes one byte."""
    name = topic(count % SENSORS).encode()
    packet_id = count % 65535 + 1
    body = len(name).to_bytes(2, "big") + name + packet_id.to_bytes(2, "big") + payload(count)
    return bytes((_PUBLISH_QOS1, len(body))) + body


def _connect(port: int) -> socket.socket:
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client_id = b"sensors"
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(client_id).to_bytes(2, "big") + client_id
    link.sendall(bytes((0x10, len(body))) + body)
    answer = link.recv(_CONNACK_BYTES, socket.MSG_WAITALL)
    if answer[3] != 0:
        raise ConnectionError(f"the broker refuses: {answer!r}")
    return link


class Sensors:
    """All sensors on one connection."""

    def __init__(self, port: int) -> None:
        self._link = _connect(port)
        self._allowed = 0
        self._sent = 0
        self._acknowledged_bytes = 0
        self._told = b""

    def run(self) -> int:
        """Publish until stdin ends; how many."""
        more = True
        while more or self._outstanding():
            self._publish()
            readers = [self._link, sys.stdin.fileno()] if more else [self._link]
            readable, _, _ = select.select(readers, [], [])
            if self._link in readable:
                self._hear_acknowledgements()
            if more and sys.stdin.fileno() in readable:
                more = self._hear_allowance()
        self._link.sendall(_DISCONNECT)
        self._link.close()
        return self._sent

    def _outstanding(self) -> int:
        return self._sent - self._acknowledged_bytes // _PUBACK_BYTES

    def _publish(self) -> None:
        while (room := min(self._allowed - self._sent, _WINDOW - self._outstanding())) > 0:
            count = min(room, _WRITE_MESSAGES)
            self._link.sendall(b"".join(map(publish_packet, range(self._sent, self._sent + count))))
            self._sent += count

    def _hear_acknowledgements(self) -> None:
        heard = self._link.recv(65536)
        if not heard:
            raise ConnectionError("the broker closed the connection")
        self._acknowledged_bytes += len(heard)

    def _hear_allowance(self) -> bool:
        heard = os.read(sys.stdin.fileno(), 65536)
        *lines, self._told = (self._told + heard).split(b"\n")
        if lines:
            self._allowed = int(lines[-1])
        return bool(heard)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    print(Sensors(parser.parse_args().port).run())


if __name__ == "__main__":
    main()
