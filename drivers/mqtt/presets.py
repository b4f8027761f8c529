"""Ready configurations for what speaks MQTT in many houses. Plain values, as they would stand in the file.

`preset = "tasmota"` fills in the keys that are not given; each can be given none the less. What the devices say is taken
from their published documentation (tests/drivers/test_mqtt_presets.py names the pages).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    # One topic a device, below the base topic; a friendly name with a `/` in it needs a topic of its own. What is about
    # the firmware and the device itself is no measurement. `last_seen` is only there when it is switched on
    # (advanced.last_seen); it is ISO 8601 or milliseconds.
    "zigbee2mqtt": {
        "topics": ["zigbee2mqtt/{device}"],
        "codec": {
            "type": "json",
            "leave_out": ["update", "update_available", "device", "last_seen", "elapsed"],
            "lists": "number",
            "time": "last_seen",
            "time_unit": "ms",
            "missing": "skip",
        },
    },
    # Full topic %prefix%/%topic%/, as it is set from the factory. `Time` is local time without a zone, so it says
    # nothing; `Epoch` is there when it is switched on (command `Time 3`). A meter of several channels has arrays.
    "tasmota": {
        "topics": ["tele/{device}/SENSOR"],
        "codec": {
            "type": "json",
            "leave_out": ["Time", "Epoch", "ENERGY.TotalStartTime"],
            "lists": "number",
            "time": "Epoch",
            "missing": "skip",
        },
    },
    # A topic for each value, below the node's name. Numbers and ON/OFF; `nan` says that a sensor has failed.
    "esphome": {
        "topics": ["{device}/sensor/{metric}/state", "{device}/binary_sensor/{metric}/state"],
        "codec": "plain",
    },
}
