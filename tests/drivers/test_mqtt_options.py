"""Addresses and settings are checked before anything is connected."""

import pytest
from pydantic import ValidationError

from drivers.mqtt.config import MqttSourceConfig
from drivers.transport.credentials import TlsFiles
from drivers.transport.mqtt_options import MqttOptions, options_from_url


def test_a_plain_url():
    assert options_from_url("mqtt://broker.example") == MqttOptions("broker.example", 1883)


def test_user_and_password_are_percent_decoded():
    options = options_from_url("mqtt://us%40er:p%2Fw@broker:1999")
    assert (options.host, options.port, options.username, options.password) == (
        "broker",
        1999,
        "us@er",
        "p/w",
    )


def test_the_password_is_not_shown():
    assert "secret" not in repr(options_from_url("mqtt://user:secret@broker"))


def test_mqtts_means_tls_on_8883():
    options = options_from_url("mqtts://broker")
    assert (options.port, options.tls) == (8883, TlsFiles())


def test_further_settings_win_and_none_is_nothing():
    options = options_from_url(
        "mqtt://user@broker", username="other", password=None, client_id="c", protocol=4
    )
    assert (options.username, options.password, options.client_id, options.protocol) == (
        "other",
        None,
        "c",
        4,
    )


@pytest.mark.parametrize(
    ("url", "port", "path", "tls"),
    [
        ("ws://broker", 80, "/mqtt", None),
        ("ws://broker:9001/", 9001, "/", None),
        ("wss://broker/ws/mqtt?key=1", 443, "/ws/mqtt?key=1", TlsFiles()),
        ("wss://broker?key=1", 443, "/?key=1", TlsFiles()),
        ("mqtt://broker/", 1883, None, None),
    ],
)
def test_a_websocket_has_a_path(url, port, path, tls):
    options = options_from_url(url)
    assert (options.port, options.websocket_path, options.tls) == (port, path, tls)


def test_an_ipv6_address():
    options = options_from_url("mqtt://[::1]:1884")
    assert (options.host, options.address) == ("::1", "[::1]:1884")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "mqtt://"),
        ("broker", "mqtt://"),
        ("http://broker", "mqtt://"),
        ("mqtt://", "host"),
        ("mqtt://:1883", "host"),
        ("mqtt://broker:99999", "(?i)port"),
        ("mqtt://broker:port", "(?i)port"),
        ("mqtt://broker:0", "(?i)port"),
        ("mqtt://broker/topic", "topics"),
        ("mqtt://broker?x=1", "topics"),
        ("ws://broker/a b", "percent"),
        ("ws://broker/\u00e4", "percent"),
        ("ws://broker/mqtt#x", "fragment"),
    ],
)
def test_a_bad_url_says_what_is_wrong(url, reason):
    with pytest.raises(ValueError, match=reason):
        options_from_url(url)


def test_tls_settings_on_a_plain_url_are_not_ignored():
    with pytest.raises(ValueError, match="mqtts://"):
        options_from_url("mqtt://broker", tls=TlsFiles())


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"host": ""}, "host"),
        ({"port": 70000}, "port"),
        ({"protocol": 3}, "protocol"),
        ({"clean_start": False}, "client_id"),
        ({"session_expiry_s": 60}, "client_id"),
        ({"receive_maximum": 0}, "receive_maximum"),
    ],
)
def test_settings_that_make_no_sense(settings, reason):
    with pytest.raises(ValueError, match=reason):
        MqttOptions(**({"host": "broker"} | settings))


SOURCE = {"url": "mqtt://broker", "topics": ["sensors/#"], "client_id": "c"}


def test_a_source_keeps_its_session_by_default():
    options = MqttSourceConfig(**SOURCE).options()
    assert (options.client_id, options.clean_start, options.session_expiry_s) == ("c", False, 7 * 86400)


def test_without_expiry_there_is_no_session():
    options = MqttSourceConfig(**SOURCE, session_expiry=0, protocol="3.1.1").options()
    assert (options.clean_start, options.protocol) == (True, 4)


def test_durations_are_written_with_their_units():
    config = MqttSourceConfig(**SOURCE, session_expiry="2 days", keepalive="1 min", connect_timeout="500 ms")
    options = config.options()
    assert (options.session_expiry_s, options.keepalive_s, options.connect_timeout_s) == (172800, 60, 0.5)


def test_a_session_that_is_to_live_a_moment_is_none_that_ends_at_once():
    assert MqttSourceConfig(**SOURCE, session_expiry="10 ms").options().session_expiry_s == 1


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"url": "http://broker"}, "mqtt://"),
        ({"url": "mqtt://user:word@broker"}, "password = { file"),
        ({"topics": []}, "at least 1"),
        ({"topics": [""]}, "1 to 65535"),
        ({"topics": ["a/#/b"]}, "last level"),
        ({"topics": ["a#"]}, "last level"),
        ({"topics": ["a/b+"]}, "whole level"),
        ({"topics": ["a\0"]}, "NUL"),
        ({"topics": ["a/{b c}"]}, "whole level"),
        ({"topics": ["a/+", "a/b"]}, "kept twice"),
        ({"retained": True}, "'skip' or 'store'"),
        ({"qos": 2}, "QoS 2 loses"),
        ({"client_id": ""}, "at least 1"),
        ({"password": {"file": "/f"}}, "needs a `username`"),
        ({"username": "u", "password": "x"}, "say where it is"),
        ({"session_expiry": "2 parsecs"}, "7 days"),
        ({"keepalive": "500 ms", "session_expiry": -1}, "greater than or equal to 0"),
        ({"keepalive": 0}, "greater than or equal to 1"),
        ({"connect_timeout": "6 min"}, "less than or equal to 300"),
        ({"url": "mqtt://u@broker", "username": "u"}, "once"),
        ({"ca_file": "/ca"}, "mqtts://"),
        ({"url": "mqtts://broker", "key": {"file": "/k"}}, "cert_file"),
        ({"nonsense": 1}, "nonsense"),
    ],
)
def test_a_bad_source_says_what_is_wrong(settings, reason):
    with pytest.raises(ValidationError, match=reason):
        MqttSourceConfig(**(SOURCE | settings))


def test_the_password_comes_from_a_file_without_its_newline(tmp_path):
    path = tmp_path / "word"
    path.write_text("secret\n")
    config = MqttSourceConfig(**SOURCE, username="u", password={"file": path})
    assert config.options().password == "secret"
