"""Every codec with options that make it work, and frames that it takes."""

from __future__ import annotations

import struct
from typing import Any

from collectors.models import Reading
from drivers.codecs import CODECS, Codec
from drivers.codecs.advertisement import Advertisement, encode
from drivers.codecs.bluetooth_uuid import full_uuid
from drivers.codecs.gatt import encode as encode_gatt

LAYOUT: dict[str, Any] = {
    "type": "struct",
    "byteorder": "little",
    "ignore": ["{"],
    "layout": [
        {
            "prefix": "D",
            "fields": [
                {"name": "seq", "type": "u32"},
                {"name": "temperature", "type": "i16", "scale": 0.1, "unit": "Cel", "missing": -32768},
            ],
        },
        {"fields": [{"name": "f", "type": "f32"}, {"name": "text", "type": "text", "length": 3}]},
    ],
}


BTHOME = Advertisement("54:48:E6:8F:80:A5", service_data={full_uuid(0xFCD2): bytes.fromhex("4002c40903bf13")})
XIAOMI = Advertisement(
    "58:2D:34:35:93:21",
    "MJ_HT_V1",
    service_data={full_uuid(0xFE95): bytes.fromhex("5020aa01da219335342d580d1004fe004802")},
)
GOVEE = Advertisement(
    "A4:C1:38:27:62:00", "GVH5075_2762", manufacturer_data={60552: bytes.fromhex("000341c26400")}
)

CODEC_CASES: dict[str, tuple[dict[str, Any] | str, list[bytes]]] = {
    "bthome": ("bthome", [encode(BTHOME)]),
    "csv": (
        {"type": "csv", "columns": ["ms", "t", "", "state"], "texts": ["state"], "units": {"t": "Cel"}},
        [b"1200,21.5,7,open", b'1,-2e3,x,"a,b"'],
    ),
    "gatt": ("gatt", [encode_gatt([(full_uuid(0x2A6E), b"\x66\x08")])]),
    "govee": ("govee", [encode(GOVEE)]),
    "json": ("json", [b'{"t": 21.5, "ok": true}']),
    "key_value": ({"type": "key_value", "texts": ["state"]}, [b"t=21.5 rh=40;ok=true, state=x"]),
    "nmea": (
        "nmea",
        [
            b"$GPGGA,184353.07,1929.045,S,02410.506,E,1,04,2.6,100.00,M,-33.9,M,,0000*6D",
            b"$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A",
        ],
    ),
    "plain": ("plain", [b"21.5", b"ON"]),
    "regex": (
        {"type": "regex", "pattern": r"T=(?P<t>-?\d+\.\d)C( H=(?P<h>\d+)%)?"},
        [b"T=21.5C H=40%", b"T=-2.0C"],
    ),
    "senml": ("senml", [b'[{"n": "t", "v": 21.5}]']),
    "xiaomi": ("xiaomi", [encode(XIAOMI)]),
    "struct": (LAYOUT, [b"D" + struct.pack("<Ih", 12, 214), struct.pack("<f3s", 21.4, b"ab\0")]),
}


def made(name: str) -> Codec:
    return CODECS.choose(CODEC_CASES[name][0]).codec()


def checked(decode: Codec, raw: bytes) -> list[dict[str, Any]] | str:
    """The values, each fit to be stored; or why there are none."""
    try:
        decoded = decode(raw)
    except ValueError as error:
        message = str(error)
        assert message
        assert len(message) < 800
        assert "\n" not in message
        return message
    for one in decoded:
        Reading(source="s", t=one.t or 0.0, values=one.values, units=one.units, tags=one.tags)
    return [one.values for one in decoded]
