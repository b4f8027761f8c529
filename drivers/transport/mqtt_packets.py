"""PUBLISH packets as bytes: pure, so that the hot path pays for no object it does not need.

paho decodes the same into `MQTTMessage`, with a lock and a condition variable for each one.
"""

from __future__ import annotations

from typing import Final, NamedTuple

DUP_FLAG: Final = 0x08
QOS_MASK: Final = 0x06
RETAIN_FLAG: Final = 0x01
PUBACK: Final = 0x40

_CONTENT_TYPE: Final = 0x03
_USER_PROPERTY: Final = 0x26
# MQTT 5, section 2.2.2.2: the properties that a PUBLISH may carry, by how they are encoded.
_FIXED_WIDTHS: Final = {0x01: 1, 0x02: 4, 0x23: 2}
_STRINGS: Final = {_CONTENT_TYPE, 0x08, 0x09}
_VARIABLE_INT: Final = 0x0B
_VARIABLE_INT_BYTES_MAX: Final = 4


class Publish(NamedTuple):
    """A PUBLISH packet as it came."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    dup: bool
    packet_id: int
    """0 at QoS 0."""
    content_type: str | None
    user_properties: tuple[tuple[str, str], ...]


def decode_publish(first_byte: int, body: bytes | bytearray, *, properties: bool) -> Publish:
    """Decode what follows the fixed header of a PUBLISH.

    Args:
        first_byte: First byte of the fixed header, which holds the flags.
        body: Everything after the remaining length.
        properties: Whether the packet has properties, as MQTT 5 does.

    Raises:
        ValueError: It is no such packet.
    """
    qos = (first_byte & QOS_MASK) >> 1
    if qos > 1:
        raise ValueError("QoS 2 was never subscribed to")
    size = len(body)
    at = 2 + ((body[0] << 8) | body[1]) if size > 1 else size + 1
    packet_id = 0
    if at + 2 * qos + properties > size:
        raise ValueError("PUBLISH is too short")
    topic = body[2:at].decode()
    if not topic or "\0" in topic:
        raise ValueError("the topic is empty or has a NUL")
    if qos:
        packet_id = (body[at] << 8) | body[at + 1]
        at += 2
        if packet_id == 0:
            raise ValueError("packet identifier 0")
    content_type: str | None = None
    user: tuple[tuple[str, str], ...] = ()
    if properties:
        if body[at]:
            length, at = _variable_int(body, at)
            end = at + length
            if end > size:
                raise ValueError("properties are longer than the packet")
            content_type, user = _decode_properties(bytes(body[at:end]))
            at = end
        else:
            at += 1
    return Publish(
        topic,
        bytes(body[at:]),
        qos,
        bool(first_byte & RETAIN_FLAG),
        bool(first_byte & DUP_FLAG),
        packet_id,
        content_type,
        user,
    )


def encode_puback(packet_id: int) -> bytes:
    """A PUBACK that says success; the same bytes in MQTT 3.1.1 and 5."""
    return bytes((PUBACK, 2, packet_id >> 8, packet_id & 0xFF))


def _decode_properties(data: bytes) -> tuple[str | None, tuple[tuple[str, str], ...]]:
    content_type: str | None = None
    user: list[tuple[str, str]] = []
    at = 0
    while at < len(data):
        identifier = data[at]
        at += 1
        if identifier in _FIXED_WIDTHS:
            at += _FIXED_WIDTHS[identifier]
        elif identifier == _VARIABLE_INT:
            _, at = _variable_int(data, at)
        elif identifier in _STRINGS:
            text, at = _binary(data, at)
            if identifier == _CONTENT_TYPE:
                content_type = text.decode()
        elif identifier == _USER_PROPERTY:
            name, at = _binary(data, at)
            value, at = _binary(data, at)
            user.append((name.decode(), value.decode()))
        else:
            raise ValueError(f"property 0x{identifier:02x} does not belong in a PUBLISH")
    if at != len(data):
        raise ValueError("a property is longer than the properties")
    return content_type, tuple(user)


def _binary(data: bytes, at: int) -> tuple[bytes, int]:
    start = at + 2
    if start > len(data):
        raise ValueError("a property is cut short")
    end = start + ((data[at] << 8) | data[at + 1])
    if end > len(data):
        raise ValueError("a property is cut short")
    return data[start:end], end


def _variable_int(data: bytes | bytearray, at: int) -> tuple[int, int]:
    value = 0
    for index in range(_VARIABLE_INT_BYTES_MAX):
        if at + index >= len(data):
            break
        byte = data[at + index]
        value |= (byte & 0x7F) << (7 * index)
        if not byte & 0x80:
            return value, at + index + 1
    raise ValueError("a length is malformed")
