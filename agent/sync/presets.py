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

from typing import Any, Final, Literal

PresetName = Literal["aws-iot-core", "thingsboard", "influxdb", "generic-mqtt", "generic-http"]

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
