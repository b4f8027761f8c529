"""Advertisements as bytes, and what BTHome, Xiaomi and Govee sensors say in them.

The payloads are those that real sensors sent, as the decoders' own tests publish them (bthome-ble, xiaomi-ble, govee-ble, of the
Bluetooth-Devices organisation), and the examples of the BTHome specification (bthome.io/format, bthome.io/encryption).
"""

import logging
import re
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collectors.models import Reading
from drivers.codecs import CODECS, Decoded
from drivers.codecs.advertisement import Advertisement, encode, parse
from drivers.codecs.bluetooth_uuid import full_uuid
from drivers.codecs.makers import MAKERS, bthome_is_numbered
from drivers.codecs.sensor_state import read_keys
from drivers.transport.secret import Secret
from tests.contract.strategies import EXAMPLES

SHELLY = "54:48:E6:8F:80:A5"
KEY = "231d39c1d7cc1ab1aee224cd096db932"
ENCRYPTED = bytes.fromhex("41a47266c95f7300112233") + bytes.fromhex("78237214")
"""The example of bthome.io/encryption."""
BTHOME, XIAOMI = full_uuid(0xFCD2), full_uuid(0xFE95)


def bthome(data: bytes, address: str = SHELLY, name: str | None = None) -> bytes:
    return encode(Advertisement(address, name, service_data={BTHOME: data}))


def decode(codec: str, raw: bytes, **options) -> list[Decoded]:
    return CODECS.choose({"type": codec, **options}).codec()(raw)


@pytest.fixture
def key_file(tmp_path):
    file = tmp_path / "key"
    file.write_text(f"{KEY}\n")
    return file


# Bytes of advertisements


uuids = st.integers(1, 0xFFFF).map(full_uuid) | st.uuids().map(str)
advertisements = st.builds(
    Advertisement,
    address=st.binary(min_size=6, max_size=6).map(lambda raw: ":".join(f"{byte:02X}" for byte in raw)),
    name=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    services=st.lists(uuids, max_size=4, unique=True).map(lambda found: tuple(sorted(found, key=len))),
    service_data=st.dictionaries(uuids, st.binary(max_size=100), max_size=3),
    manufacturer_data=st.dictionaries(st.integers(0, 0xFFFF), st.binary(max_size=100), max_size=3),
    tx_power=st.none() | st.integers(-127, 127),
)


@EXAMPLES
@given(advertisements)
def test_an_advertisement_survives_its_bytes(advertisement):
    again = parse(encode(advertisement))
    assert sorted(again.services) == sorted(advertisement.services)
    assert (again.address, again.name, again.service_data, again.manufacturer_data, again.tx_power) == (
        advertisement.address,
        advertisement.name,
        advertisement.service_data,
        advertisement.manufacturer_data,
        advertisement.tx_power,
    )


@EXAMPLES
@given(st.binary(max_size=80))
def test_any_bytes_are_an_advertisement_or_explained(raw):
    try:
        parse(raw)
    except ValueError as error:
        assert str(error)  # noqa: PT017 (both outcomes are right)


def test_the_bytes_are_those_on_the_air():
    raw = bthome(bytes.fromhex("4002c40903bf13"), name="hall")
    assert raw.hex(" ") == "54 48 e6 8f 80 a5 05 09 68 61 6c 6c 0a 16 d2 fc 40 02 c4 09 03 bf 13"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"\0\0", "2 bytes are no advertisement"),
        (b"\0" * 6 + b"\x05\x09ab", "cut off: it has 3 of 5 bytes"),
        (b"\0" * 6 + b"\x02\x16\x01", "type 0x16 needs 2 bytes and has 1"),
        (b"\0" * 6 + b"\x04\x03abc", "not a multiple of 2"),
    ],
)
def test_what_is_no_advertisement_is_explained(raw, message):
    with pytest.raises(ValueError, match=message):
        parse(raw)


# What sensors say


def test_the_example_of_the_bthome_specification():
    (decoded,) = decode("bthome", bthome(bytes.fromhex("4002c40903bf13")))
    assert decoded == Decoded(
        {"temperature": 25.0, "humidity": 50.55}, units={"temperature": "Cel", "humidity": "%RH"}
    )


def test_a_shelly_that_shows_what_it_measures():
    (decoded,) = decode("bthome", bthome(bytes.fromhex("40002e01641e012e34451601"), name="SBHT-103C"))
    assert decoded.values == {"battery": 100, "humidity": 52, "temperature": 27.8, "light": True}
    assert decoded.units == {"battery": "%EL", "humidity": "%RH", "temperature": "Cel"}


def test_every_button_and_every_value_of_a_kind_is_kept():
    (decoded,) = decode("bthome", bthome(bytes.fromhex("400002" + "3a01" + "3a00" + "3a04")))
    assert decoded.values == {"button_1": "press", "button_3": "long_press"}
    (decoded,) = decode("bthome", bthome(bytes.fromhex("40" + "02c409" + "02ca09" + "3c0103")))
    assert decoded.values == {
        "temperature_1": 25.0,
        "temperature_2": 25.06,
        "dimmer": "rotate_left",
        "dimmer.steps": 3,
    }


def test_an_encrypted_packet_needs_its_key(key_file):
    (decoded,) = decode("bthome", bthome(ENCRYPTED), key={"file": key_file})
    assert decoded.values == {"temperature": 25.06, "humidity": 50.55}
    with pytest.raises(ValueError, match="it is encrypted, and there is no key for this sensor"):
        decode("bthome", bthome(ENCRYPTED))


def test_a_wrong_key_is_said_and_not_taken_for_silence(tmp_path):
    wrong = tmp_path / "key"
    wrong.write_text("814aac74c4f17b6c1581e1ab87816b99")
    with pytest.raises(ValueError, match="it does not decrypt with the key that is there for this sensor"):
        decode("bthome", bthome(ENCRYPTED), key={"file": wrong})


def test_data_in_the_clear_is_not_believed_where_there_is_a_key(key_file):
    with pytest.raises(ValueError, match="it is not encrypted although there is a key for this sensor"):
        decode("bthome", bthome(bytes.fromhex("4002c40903bf13")), key={"file": key_file})


def test_keys_of_several_sensors_stand_in_one_file(tmp_path):
    file = tmp_path / "keys"
    file.write_text(f"# cellar\n{SHELLY.lower()} {KEY}  # the third\n\nA4:C1:38:00:00:01 {KEY[::-1]}\n")
    keys = read_keys(Secret(file=file))
    assert keys.of(SHELLY) == bytes.fromhex(KEY)
    assert keys.of("00:00:00:00:00:00") is None
    (decoded,) = decode("bthome", bthome(ENCRYPTED), key={"file": file})
    assert decoded.values["temperature"] == 25.06


@pytest.mark.parametrize("text", ["12345", f"{KEY}0", f"{SHELLY} {KEY} x", f"{SHELLY} secret"])
def test_what_is_no_key_is_said_without_showing_it(tmp_path, text):
    file = tmp_path / "keys"
    file.write_text(f"\n{text}\n")
    with pytest.raises(ValueError, match="line 2: should be a key of 32 hexadecimal digits") as caught:
        read_keys(Secret(file=file))
    assert text not in str(caught.value)
    with pytest.raises(ValueError, match="cannot be read"):
        read_keys(Secret(file=tmp_path / "missing"))


def test_a_packet_says_only_what_is_in_it():
    codec = CODECS.choose("bthome").codec()
    codec(bthome(bytes.fromhex("40" + "0001" + "02c409")))
    (decoded,) = codec(bthome(bytes.fromhex("40" + "0002" + "03bf13")))
    assert decoded.values == {"humidity": 50.55}  # and no temperature from the packet before
    (decoded,) = codec(bthome(bytes.fromhex("40" + "0001" + "02ca09")))  # an older number: judged elsewhere
    assert decoded.values == {"temperature": 25.06}


@pytest.mark.parametrize(
    "data", [b"", b"\x40", b"\x40\x00\x01", b"\x60\x02\xc4\x09", b"\x40\xfe\x01", b"\x41\x00", b"\x42\x01"]
)
def test_what_says_nothing_is_an_error(data):
    with pytest.raises(ValueError, match=r"BTHome|encrypted"):
        decode("bthome", bthome(data))


def test_another_sensor_s_advertisement_is_an_error():
    with pytest.raises(ValueError, match="nothing in it that is known of BTHome"):
        decode("bthome", encode(Advertisement(SHELLY, manufacturer_data={76: b"\x02\x15"})))


def test_a_xiaomi_thermometer():
    # LYWSDCGQ
    data = bytes.fromhex("5020aa01da219335342d580d1004fe004802")
    raw = encode(Advertisement("58:2D:34:35:93:21", "MJ_HT_V1", service_data={XIAOMI: data}))
    (decoded,) = decode("xiaomi", raw)
    assert decoded.values == {"temperature": 25.4, "humidity": 58.4}
    assert decoded.units == {"temperature": "Cel", "humidity": "%RH"}


def test_a_govee_thermometer():
    # H5075
    raw = encode(
        Advertisement(
            "A4:C1:38:27:62:00",
            "GVH5075_2762",
            manufacturer_data={60552: bytes.fromhex("000341c26400")},
        )
    )
    (decoded,) = decode("govee", raw)
    assert decoded.values == {"temperature": 21.3, "humidity": 44.2, "battery": 100}


def test_a_ruuvi_tag_by_the_layout_in_the_documentation():
    # The valid data of Ruuvi's own description of its data format 5.
    page = (Path(__file__).parents[2] / "docs/bluetooth.md").read_text()
    (block,) = [text for text in re.findall(r"```toml\n(.*?)```", page, re.DOTALL) if "0x0499" in text]
    (source,) = tomllib.loads(block)["source"]
    raw = bytes.fromhex("0512FC5394C37C0004FFFC040CAC364200CDCBB8334C884F")
    (decoded,) = CODECS.choose(source["codec"]).codec()(raw)
    assert decoded.values == {
        "temperature": 24.3,
        "humidity": 53.49,
        "pressure": 100044,
        "acceleration_x": 0.004,
        "acceleration_y": -0.004,
        "acceleration_z": 1.036,
        "power": 0xAC36,
        "movements": 66,
        "sequence": 205,
    }


def test_the_libraries_say_nothing_of_their_own(caplog):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match=r"."):
        decode("bthome", bthome(b"\x60\x02\xc4\x09"))
    assert not [record for record in caplog.records if record.levelno >= logging.INFO]


@pytest.mark.parametrize("name", MAKERS)
def test_a_library_that_is_missing_is_named(name, monkeypatch):
    monkeypatch.setitem(sys.modules, MAKERS[name].library.partition(":")[0], None)
    with pytest.raises(ValueError, match=rf"pip install 'outstation\[{name}\]'"):
        CODECS.choose(name)


@pytest.mark.parametrize("name", MAKERS)
@EXAMPLES
@given(
    data=st.binary(max_size=40),
    head=st.sampled_from([b"", b"\x40", b"\x44", b"\x50\x20\xaa\x01", b"\x01\x00"]),
)
@example(data=b"", head=b"")
def test_any_bytes_are_readings_or_explained(name, data, head):
    service = MAKERS[name].service
    raw = encode(
        Advertisement(
            SHELLY,
            "GVH5075_2762" if name == "govee" else "hall",
            service_data={service: head + data} if service else {},
            manufacturer_data={} if service else {60552: head + data},
        )
    )
    try:
        decoded = decode(name, raw)
    except ValueError as error:
        assert str(error)  # noqa: PT017 (both outcomes are right)
        return
    for one in decoded:
        assert Reading(source="s", t=0.0, values=one.values, units=one.units).values == one.values


@pytest.mark.parametrize(
    ("data", "numbered"),
    [
        ("4000010264", True),
        ("4002c409", False),
        (ENCRYPTED.hex(), True),
        ("42a5808fe64854000102c409", True),
        ("42a5808fe6485402c409", False),
        ("", False),
        ("40", False),
    ],
)
def test_which_bthome_packets_have_a_number(data, numbered):
    assert bthome_is_numbered(bytes.fromhex(data)) is numbered
