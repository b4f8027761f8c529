"""What is known of clouds: for a preset and a driver, what `[[upstream]]` means where it says nothing else.

Limits stand a tenth below those that the clouds name, since messages may come closer together than they left.

| preset | its limits, and where they are from |
| --- | --- |
| aws-iot-core | 128 KB a message, 100 publishes/s and 512 KB/s a connection, 100 unacknowledged, one CONNECT/s a client id: "AWS IoT Core endpoints and quotas". A throttled message gets no PUBACK. What is compressed, its rules cannot read |
| thingsboard | 64 KB a message; a device of ThingsBoard Cloud: 100 data points/s, 2,000 a minute, 15,000 an hour. A device that exceeds them is disconnected without a word. Servers of your own have none, unless set: `limits = []` |
| influxdb | answers 413 and 429 with Retry-After where it has limits; batches of some thousand lines are recommended |
| generic-mqtt, generic-http | what no cloud is known to refuse: 48 KB, 20 in flight, 8 messages/s |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from agent.sync.config import UpstreamOptions

PresetName = Literal["aws-iot-core", "thingsboard", "influxdb", "generic-mqtt", "generic-http"]

_AWS_TOPIC_SLASHES_MAX: Final = 7
_AWS_TOPIC_BYTES_MAX: Final = 256
_AWS_ALPN_PORT: Final = 443
_AWS_ALPN: Final = ("x-amzn-mqtt-ca",)
"""What MQTT with a certificate is called on the port that HTTPS has, too ("Device communication protocols")."""

_GENTLE: Final = ["8 messages/s", "400 messages/min", "20000 messages/h"]
_THINGSBOARD: Final[dict[str, Any]] = {
    "format": "thingsboard",
    "gzip": False,
    "message_size": 56 * 1024,
    "limits": [
        *("8 messages/s", "250 messages/min"),
        *("90 points/s", "1800 points/min", "13500 points/h"),
    ],
}

PRESETS: Final[dict[str, dict[str, dict[str, Any]]]] = {
    "aws-iot-core": {
        "mqtt": {
            "ack": "broker",
            "gzip": False,
            "message_size": 116 * 1024,
            "batch_size": 96 * 1024,
            "in_flight": 90,
            "limits": ["90 messages/s", "460 KB/s"],
            "connect_interval": 1.1,
        }
    },
    "thingsboard": {
        "mqtt": {
            **_THINGSBOARD,
            "ack": "broker",
            "topic": "v1/devices/me/telemetry",
            "in_flight": 5,
            "connect_interval": 1.1,
        },
        "http": _THINGSBOARD,
    },
    "influxdb": {
        "http": {
            "format": "influx",
            "message_size": 1 << 20,
            "batch_size": 512 * 1024,
            "batch_readings": 5000,
        }
    },
    "generic-mqtt": {"mqtt": {"ack": "broker", "gzip": False, "limits": _GENTLE, "connect_interval": 1.1}},
    "generic-http": {"http": {"gzip": False, "limits": _GENTLE}},
}
"""By preset and driver."""


def with_preset(driver: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options as written, and what their preset fills in.

    Raises:
        ValueError: The preset is not for this driver.
    """
    preset = options.get("preset")
    if not isinstance(preset, str) or preset not in PRESETS:
        return options  # none, or one that there is not: refused as any wrong value is
    found = PRESETS[preset].get(driver)
    if found is None:
        kinds = " or ".join(PRESETS[preset])
        raise ValueError(f"the preset {preset} is for {kinds} upstreams, and this one is by {driver}")
    return {**found, **options}


def alpn(options: UpstreamOptions) -> tuple[str, ...]:
    """What a cloud has to be asked for by ALPN at this address."""
    by_certificate = options.preset == "aws-iot-core" and options.cert_file is not None
    aws = by_certificate and urlsplit(options.url).port == _AWS_ALPN_PORT
    return _AWS_ALPN if aws else ()


def fault(options: UpstreamOptions) -> str | None:
    """What a cloud needs and these options do not say, or what it does not take; None when all is well."""
    has = {
        name for name in ("token", "username", "cert_file", "org", "bucket") if getattr(options, name, None)
    }
    if options.preset == "aws-iot-core":
        return _fault_for_aws(options, has)
    if options.preset == "influxdb":
        if not {"org", "bucket"} <= has:
            return "InfluxDB needs `org` and `bucket`"
        return None if has & {"token", "username"} else "InfluxDB needs an API token that may write: `token`"
    if options.preset == "thingsboard" and not has & (
        {"token"} if options.driver_name == "http" else {"token", "username", "cert_file"}
    ):
        return "ThingsBoard needs the device's access token: `token`"
    if (
        options.format == "thingsboard"
        and options.driver_name == "http"
        and names_thingsboard_token(options.url)
    ):
        return 'keep the access token out of the URL, which is shown: end it before /api/v1, with preset = "thingsboard" and `token`'
    return None


def _fault_for_aws(options: UpstreamOptions, has: set[str]) -> str | None:
    if "cert_file" not in has and "username" not in has:
        return "AWS IoT Core knows a device by its certificate: set `cert_file` and `key`"
    if urlsplit(options.url).scheme.startswith("ws"):
        return "AWS IoT Core takes no certificate in a WebSocket: write mqtts://HOST, or mqtts://HOST:443 where only that port is open"
    topic = getattr(options, "topic", None) or ""
    if topic.count("/") > _AWS_TOPIC_SLASHES_MAX or len(topic.encode()) > _AWS_TOPIC_BYTES_MAX:
        return f"AWS IoT Core takes topics with at most {_AWS_TOPIC_SLASHES_MAX} slashes and {_AWS_TOPIC_BYTES_MAX} bytes: shorten `topic`"
    return None


def names_thingsboard_token(url: str) -> bool:
    """Whether a url is the one of ThingsBoard's device API, which has the access token in it."""
    return "/api/v1/" in urlsplit(url).path
