"""Many MQTT sensors in one process of their own: each on a connection of its own, at QoS 1, a counter each.

    python -m tests.rigs.sensor_fleet --port 1883 --sensors 100 --readings 2000 --rate 4000

It speaks MQTT 3.1.1 on plain sockets, a few microseconds a message, so that it is not what a test waits for. When every
message was acknowledged by the broker it prints how many those are, and ends.
"""

from __future__ import annotations

import argparse
import selectors
import socket
import time
from dataclasses import dataclass

WINDOW = 50
"""Messages of one sensor that the broker has not acknowledged, at most."""
TURN_S = 0.005
PUBACK_BYTES = 4


def topic(number: int) -> str:
    """Where a sensor publishes."""
    return f"sensors/s{number:03}"


@dataclass
class Sensor:
    """One sensor and how far it has come."""

    name: bytes
    link: socket.socket
    sent: int = 0
    acknowledged_bytes: int = 0

    @property
    def acknowledged(self) -> int:
        return self.acknowledged_bytes // PUBACK_BYTES

    def publish(self, until: int) -> None:
        """Publish up to so many in all, as far as the window allows."""
        until = min(until, self.acknowledged + WINDOW)
        if until > self.sent:
            self.link.sendall(b"".join(self._packet(number) for number in range(self.sent, until)))
            self.sent = until

    def hear(self) -> None:
        heard = self.link.recv(65536)
        if not heard:
            raise ConnectionError("the broker closed the connection")
        self.acknowledged_bytes += len(heard)

    def _packet(self, number: int) -> bytes:
        packet_id = number % 65535 + 1
        body = (
            len(self.name).to_bytes(2, "big")
            + self.name
            + packet_id.to_bytes(2, "big")
            + b'{"n":%d,"level":%.1f}' % (number, number * 7919 % 500 / 10)
        )
        assert len(body) < 128
        return bytes((0x32, len(body))) + body


def connect(port: int, number: int) -> Sensor:
    link = socket.create_connection(("127.0.0.1", port))
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client_id = f"s{number:03}".encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x00" + len(client_id).to_bytes(2, "big") + client_id
    link.sendall(bytes((0x10, len(body))) + body)
    answer = link.recv(4, socket.MSG_WAITALL)
    if answer[3] != 0:
        raise ConnectionError(f"the broker refuses: {answer!r}")
    return Sensor(topic(number).encode(), link)


def run(port: int, sensors: int, readings: int, rate_hz: float) -> int:
    """Publish everything, evenly; how many messages the broker has acknowledged."""
    fleet = [connect(port, number) for number in range(sensors)]
    with selectors.DefaultSelector() as selector:
        for sensor in fleet:
            selector.register(sensor.link, selectors.EVENT_READ, sensor)
        begun = time.monotonic()
        while any(sensor.acknowledged < readings for sensor in fleet):
            due = min(readings, int((time.monotonic() - begun) * rate_hz / sensors) + 1)
            for sensor in fleet:
                sensor.publish(due)
            for key, _ in selector.select(TURN_S):
                key.data.hear()
            time.sleep(TURN_S)
    for sensor in fleet:
        sensor.link.sendall(b"\xe0\x00")
        sensor.link.close()
    return sum(sensor.acknowledged for sensor in fleet)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--sensors", type=int, required=True)
    parser.add_argument("--readings", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    arguments = parser.parse_args()
    print(run(arguments.port, arguments.sensors, arguments.readings, arguments.rate))  # noqa: T201 (its answer)


if __name__ == "__main__":
    main()
