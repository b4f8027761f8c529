"""The configuration of a serial source."""

import pytest
from pydantic import ValidationError

from drivers.serial.config import SerialConfig


@pytest.mark.parametrize(
    "settings",
    [
        {"port": "/dev/serial/by-id/usb-Arduino_Uno-if00"},
        {"port": "/dev/ttyS0", "baudrate": 9600, "parity": "even", "stopbits": 2, "bytesize": 7},
        {
            "port": "socket://192.168.1.20:4001",
            "framing": {"type": "lines", "terminator": "\r\n", "max_frame": "4 KiB"},
            "open_timeout": "500 ms",
        },
        {"port": "socket://[::1]:4001/", "silent_after": "1 min", "settle": 2},
        {"usb": {"vendor": "2341", "product": "0043", "serial": "A1"}, "baudrate": 9600},
        {"port": "/dev/ttyS0", "flow_control": "xonxoff", "hangup": False},
        {"port": "/dev/ttyS0", "poll": {"request": "?", "interval": "1 min"}},
    ],
)
def test_what_is_accepted(settings):
    assert SerialConfig.model_validate(settings).is_device == settings.get("port", "/").startswith("/")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "give `port`, such as .* or `usb`"),
        ({"port": "/dev/ttyS0", "usb": {"vendor": "2341", "product": "0043"}}, "two ways to say"),
        ({"usb": {"vendor": "2341"}}, "product"),
        ({"usb": {"vendor": "2341", "product": "43"}}, "pattern"),
        (
            {"port": "socket://host:1", "dtr": False, "flow_control": "rtscts"},
            "flow_control, dtr|dtr, flow_control: set",
        ),
        ({"port": "/dev/ttyS0", "flow_control": "rtscts", "rts": False}, "`rts` is the system's"),
        (
            {"port": "/dev/ttyS0", "flow_control": "xonxoff", "framing": "cobs"},
            "takes the bytes 0x11 and 0x13 away",
        ),
        (
            {"port": "COM3"},
            "'COM3' is no serial port: it must be a device path or socket://, such as /dev/serial/by-id",
        ),
        ({"port": "rfc2217://host:1"}, "is no serial port"),
        ({"port": "socket://host"}, "must be socket://HOST:PORT and nothing more"),
        ({"port": "socket://host:99999"}, "out of range"),
        ({"port": "socket://host:1?logging=debug"}, "nothing more"),
        (
            {"port": "socket://host:1", "baudrate": 9600, "parity": "odd"},
            "baudrate, parity: set where the port is",
        ),
        ({"port": "/dev/ttyS0", "baudrate": 0}, "baudrate"),
        ({"port": "/dev/ttyS0", "parity": "N"}, "'none', 'even'"),
        ({"port": "/dev/ttyS0", "stopbits": 1.5}, "stopbits"),
        ({"port": "/dev/ttyS0", "framing": "cob"}, "no framing 'cob'.* did you mean `cobs`"),
        ({"port": "/dev/ttyS0", "framing": {"type": "lines", "terminator": ""}}, r"framing\.terminator"),
        ({"port": "/dev/ttyS0", "speed": 9600}, "speed"),
        (
            {"port": "/dev/ttyS0", "settle": "5 s", "silent_after": "5 s"},
            r"\(5 s\) must be longer than `settle`",
        ),
        (
            {"port": "/dev/ttyS0", "silent_after": "10 s", "poll": {"request": "?", "interval": "10 s"}},
            r"\(10 s\) must be longer than `poll.interval` and `poll.timeout` together \(11 s\)",
        ),
        (
            {"port": "/dev/ttyS0", "resend": {"depth": 9, "boot": "seq"}},
            "`counter`, `boot` and `uptime` must be three metrics",
        ),
    ],
)
def test_what_is_refused_and_why(settings, message):
    with pytest.raises(ValidationError, match=message):
        SerialConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("settings", "refuses_half", "is_advised"),
    [
        ({}, False, True),
        ({}, True, False),
        ({"framing": {"type": "lines", "first_frame": "discard"}}, False, False),
        ({"framing": "slip"}, False, True),
        ({"framing": {"type": "slip", "crc": "crc16"}}, False, False),
        ({"framing": "cobs"}, False, False),
        ({"framing": {"type": "delimited", "start": "<", "end": ">"}}, False, False),
        ({"poll": {"request": "?", "interval": 1}}, False, False),
    ],
)
def test_half_a_first_frame_is_advised_against_where_it_could_be_a_wrong_value(
    settings, refuses_half, is_advised
):
    config = SerialConfig(port="/dev/serial0", **settings)
    advice = config.advice(refuses_half=refuses_half)
    assert any('first_frame = "discard"' in line for line in advice) is is_advised
