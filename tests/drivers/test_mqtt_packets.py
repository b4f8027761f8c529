"""PUBLISH as bytes: what paho sends is decoded alike, and garbage is nothing but a ValueError."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt._packet import decode_publish as paho_decode_publish
from paho.mqtt.enums import MQTTProtocolVersion
from paho.mqtt.exception import MalformedPacket
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from drivers.transport.mqtt_packets import decode_publish, encode_puback

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
topics = texts.filter(bool)


def encode(topic, payload, *, qos, packet_id, properties):
    data = topic.encode()
    body = len(data).to_bytes(2, "big") + data
    if qos:
        body += packet_id.to_bytes(2, "big")
    if properties is not None:
        body += properties.pack()
    return body + payload


@st.composite
def property_sets(draw):
    properties = Properties(PacketTypes.PUBLISH)
    if draw(st.booleans()):
        properties.ContentType = draw(texts)
    pairs = draw(st.lists(st.tuples(texts, texts), max_size=12))
    if pairs:
        properties.UserProperty = pairs
    if draw(st.booleans()):
        properties.MessageExpiryInterval = draw(st.integers(0, 2**32 - 1))
    if draw(st.booleans()):
        properties.PayloadFormatIndicator = draw(st.integers(0, 1))
    if draw(st.booleans()):
        properties.ResponseTopic = draw(topics)
        properties.CorrelationData = draw(st.binary(max_size=10))
    if draw(st.booleans()):
        properties.SubscriptionIdentifier = draw(st.integers(1, 268435455))
    return properties


@given(
    topics,
    st.binary(max_size=300),
    st.integers(0, 1),
    st.integers(1, 65535),
    st.booleans(),
    st.booleans(),
    st.none() | property_sets(),
)
def test_what_was_encoded_is_decoded(topic, payload, qos, packet_id, dup, retain, properties):
    body = encode(topic, payload, qos=qos, packet_id=packet_id, properties=properties)
    message = decode_publish(
        0x30 | dup << 3 | qos << 1 | retain, bytearray(body), properties=properties is not None
    )
    assert (message.topic, message.payload, message.qos) == (topic, payload, qos)
    assert (message.dup, message.retain) == (dup, retain)
    assert message.packet_id == (packet_id if qos else 0)
    if properties is not None:
        assert message.content_type == getattr(properties, "ContentType", None)
        assert list(message.user_properties) == getattr(properties, "UserProperty", [])


@given(st.binary(max_size=60), st.integers(0x30, 0x33), st.booleans())
def test_garbage_is_a_value_error_and_the_rest_is_as_paho_reads_it(body, first_byte, properties):
    try:
        message = decode_publish(first_byte, body, properties=properties)
    except ValueError:
        return
    version = MQTTProtocolVersion.MQTTv5 if properties else MQTTProtocolVersion.MQTTv311
    try:
        theirs = paho_decode_publish(first_byte, body, version)
    except MalformedPacket:
        return  # paho minds what we skip, such as a property given twice
    assert message.topic.encode() == theirs.topic
    assert (message.payload, message.packet_id) == (theirs.payload, theirs.mid)


@pytest.mark.parametrize(
    ("first_byte", "body", "reason"),
    [
        (0x30, b"", "too short"),
        (0x30, b"\x00", "too short"),
        (0x30, b"\x00\x05ab", "too short"),
        (0x32, b"\x00\x01a", "too short"),
        (0x32, b"\x00\x01a\x00\x00", "identifier 0"),
        (0x34, b"\x00\x01a\x00\x01", "QoS 2"),
        (0x36, b"\x00\x01a\x00\x01", "QoS 2"),
        (0x30, b"\x00\x00payload", "empty"),
        (0x30, b"\x00\x01\x00", "NUL"),
        (0x30, b"\x00\x01\xff", "utf-8"),
    ],
)
def test_each_malformed_packet_says_why(first_byte, body, reason):
    with pytest.raises(ValueError, match=reason):
        decode_publish(first_byte, body, properties=False)


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        (b"\x05", "longer than the packet"),
        (b"\x80\x80\x80\x80\x01", "malformed"),
        (b"\x01\x11", "does not belong"),
        (b"\x02\x03\x00", "cut short"),
        (b"\x04\x03\x00\x09x", "cut short"),
        (b"\x02\x02\x00", "longer than the properties"),
    ],
)
def test_each_malformed_property_says_why(properties, reason):
    with pytest.raises(ValueError, match=reason):
        decode_publish(0x30, b"\x00\x01a" + properties, properties=True)


@given(st.integers(1, 65535))
def test_puback(packet_id):
    assert encode_puback(packet_id) == b"\x40\x02" + packet_id.to_bytes(2, "big")
