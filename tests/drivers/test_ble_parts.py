"""The pure parts of the Bluetooth driver: repetitions, silence, scans, names."""

import json
from itertools import pairwise

import pytest
from bleak.exc import (
    BleakBluetoothNotAvailableError,
    BleakBluetoothNotAvailableReason,
    BleakDBusError,
    BleakDeviceNotFoundError,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivers.ble.config import BleConfig
from drivers.ble.errors import explain
from drivers.ble.identifiers import parse_adapter, parse_address
from drivers.ble.repeats import REMEMBERED, SENSORS_MAX, WINDOW_UNKNOWN_S, Repeats
from drivers.ble.scan import Scan, Want, combined, company_patterns, service_patterns
from drivers.ble.watchdog import PATIENCE_LEAST_S, PATIENCE_MOST_S, PAUSE_MOST_S, Rung, Watchdog
from drivers.codecs.bluetooth_uuid import full_uuid, short_uuid, shown_uuid
from tests.contract.strategies import EXAMPLES

HERE = "C4:4F:33:00:00:01"


def kept(repeats, said, *, numbered=False):
    return [(now_s, data) for now_s, data in said if repeats.is_new(HERE, data, now_s, numbered=numbered)]


# Repetitions


def test_numbered_data_is_one_reading_whenever_it_comes_again():
    said = [(0, b"1"), (1, b"1"), (2, b"2"), (3, b"1"), (9999, b"2"), (10000, b"3")]
    assert kept(Repeats(), said, numbered=True) == [(0, b"1"), (2, b"2"), (10000, b"3")]


def test_a_number_that_has_gone_round_is_new_again():
    said = [(n, bytes([n % 256])) for n in range(600)]
    assert kept(Repeats(), said, numbered=True) == said
    assert REMEMBERED < 256


def test_without_a_number_the_interval_tells_repetition_from_measurement():
    # Said every second, measured every 60: equal for three minutes, then changed and changed back.
    said = [(second, b"a") for second in range(180)] + [(180, b"b"), (181, b"a"), (182, b"a")]
    assert kept(Repeats(60.0), said) == [(0, b"a"), (60, b"a"), (120, b"a"), (180, b"b"), (181, b"a")]


def test_the_interval_is_learned_from_the_changes():
    repeats = Repeats()
    changing = [(second, b"%d" % (second // 10)) for second in range(100)]  # measured every 10 s
    assert [now for now, _ in kept(repeats, changing)] == list(range(0, 100, 10))
    equal = [(second, b"9") for second in range(100, 160)]
    assert [now for now, _ in kept(repeats, equal)] == [100, 110, 120, 130, 140, 150]


def test_until_the_interval_is_known_it_is_a_minute():
    said = [(second, b"a") for second in range(150)]
    assert [now for now, _ in kept(Repeats(), said)] == [0, WINDOW_UNKNOWN_S, 2 * WINDOW_UNKNOWN_S]


@EXAMPLES
@given(
    st.lists(st.tuples(st.floats(0, 1000), st.binary(min_size=1, max_size=1)), max_size=60),
    st.none() | st.floats(0.1, 100),
)
def test_a_change_is_always_kept_and_never_twice_in_a_row_at_once(said, interval_s):
    repeats, latest, at = Repeats(interval_s), None, 0.0
    for now_s, data in sorted(said, key=lambda one: one[0]):
        new = repeats.is_new(HERE, data, now_s, numbered=False)
        assert new or data == latest
        if data == latest and interval_s is not None:
            assert new == (now_s - at >= interval_s)
        if new:
            latest, at = data, now_s


def test_sensors_are_told_apart_and_memory_is_bounded():
    repeats = Repeats()
    for number in range(3 * SENSORS_MAX):
        assert repeats.is_new(f"{number}", b"a", 0.0, numbered=True)
    assert len(repeats._sensors) == SENSORS_MAX
    assert repeats.repeated == 0


@EXAMPLES
@given(st.lists(st.binary(min_size=1, max_size=2), min_size=1, max_size=40))
def test_what_was_heard_is_taken_up_after_a_restart(said):
    before = Repeats()
    for data in said:
        before.is_new(HERE, data, 0.0, numbered=True)
    after = Repeats()
    after.take_up(json.loads(json.dumps(before.notes())))
    assert not after.is_new(HERE, said[-1], 0.0, numbered=True) or said[-1] in said[:-1]
    before.forget(HERE, said[-1])
    assert before.is_new(HERE, said[-1], 0.0, numbered=True)


@pytest.mark.parametrize("notes", [None, [], {"a": 1}, {HERE: [1, "x", "0" * 15]}, {1: ["0" * 16]}])
def test_notes_that_are_none_are_passed_over(notes):
    repeats = Repeats()
    repeats.take_up(notes)
    assert repeats.is_new(HERE, b"1", 0.0, numbered=True)


# Silence


def climbed(watchdog, until_s, step_s=1.0):
    """When which rung was taken, with nothing heard."""
    taken, now_s = [], watchdog.heard_s
    while now_s <= until_s:
        if now_s >= watchdog.due_s:
            taken.append((now_s, watchdog.climb(now_s)))
        now_s += step_s
    return taken


def test_an_unknown_sensor_has_ninety_seconds():
    watchdog = Watchdog(0.0)
    assert watchdog.due_s == PATIENCE_MOST_S
    assert climbed(watchdog, 500)[:3] == [(90, Rung.RESCANNED), (180, Rung.CYCLED), (270, Rung.ALARMED)]
    assert not watchdog.is_silent(90.0)
    assert watchdog.is_silent(90.1)


def test_a_sensor_that_speaks_often_is_missed_sooner():
    watchdog = Watchdog(0.0)
    for second in range(0, 41, 5):
        watchdog.heard(second)
    assert watchdog.explained_s == 20
    assert climbed(watchdog, 110)[:3] == [(60, Rung.RESCANNED), (80, Rung.CYCLED), (100, Rung.ALARMED)]


def test_lost_signals_and_one_outage_do_not_change_what_is_usual():
    watchdog = Watchdog(0.0)
    for second in (0, 1, 2, 4, 5, 6, 9, 10, 11, 12, 600, 601, 602):
        watchdog.heard(second)
    assert watchdog.explained_s == PATIENCE_LEAST_S


def test_a_sensor_that_speaks_seldom_is_only_scanned_for_before_it_is_overdue():
    watchdog = Watchdog(0.0)
    for turn in range(5):
        watchdog.heard(turn * 600.0)
    assert watchdog.explained_s == 2400
    assert watchdog.patience_s == PATIENCE_MOST_S
    assert climbed(watchdog, 2400 + 2800)[:3] == [
        (2490, Rung.RESCANNED),
        (2400 + 2490, Rung.CYCLED),
        (2400 + 2580, Rung.ALARMED),
    ]


def test_how_long_silence_is_normal_can_be_said():
    watchdog = Watchdog(0.0, silent_after_s=3600.0)
    for second in range(100):
        watchdog.heard(second)
    assert watchdog.explained_s == 3600
    assert not watchdog.is_silent(99 + 3600)
    assert Watchdog(0.0, silent_after_s=5.0).due_s == 5


def test_the_ladder_goes_on_ever_more_rarely():
    taken = [now for now, rung in climbed(Watchdog(0.0), 50_000, 10.0) if rung is Rung.CYCLED]
    pauses = [later - sooner for sooner, later in pairwise(taken)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 600
    assert PAUSE_MOST_S <= pauses[-1] <= PAUSE_MOST_S + 3 * PATIENCE_MOST_S


def test_to_be_heard_ends_it_and_to_listen_anew_too():
    watchdog = Watchdog(0.0)
    climbed(watchdog, 300)
    watchdog.heard(300.0)
    assert (watchdog.rung, watchdog.due_s) == (Rung.GROUND, 390)
    climbed(watchdog, 1000)
    watchdog.listen(1000.0)
    assert (watchdog.rung, watchdog.due_s) == (Rung.GROUND, 1090)


# Scans


def test_the_scan_is_passive_only_when_every_source_can_say_what_it_wants():
    beacon, ruuvi = Want("auto", service_patterns(full_uuid(0xFCD2))), Want("auto", company_patterns(0x0499))
    assert combined([], passive_works=True) is None
    both = combined([beacon, ruuvi], passive_works=True)
    assert both.passive
    assert set(both.patterns) == {*beacon.patterns, *ruuvi.patterns}
    assert combined([beacon, Want("auto")], passive_works=True) == Scan()
    assert combined([beacon, Want("active", ruuvi.patterns)], passive_works=True) == Scan()
    assert combined([beacon], passive_works=False) == Scan()
    only = Want("passive", beacon.patterns)
    assert combined([only, ruuvi], passive_works=False).passive_only
    assert combined([only, Want("active")], passive_works=True) == Scan()


def test_patterns_are_those_of_the_air():
    assert company_patterns(0x0499) == ((0, 0xFF, b"\x99\x04"),)
    assert service_patterns(full_uuid(0xFCD2)) == ((0, 0x16, b"\xd2\xfc"),)
    long = service_patterns("6e400001-b5a3-f393-e0a9-e50e24dcca9e")
    assert long == ((0, 0x21, bytes.fromhex("9ecadc240ee5a9e093f3a3b50100406e")),)


def test_more_patterns_than_bluetoothd_survives_are_never_asked_for():
    wants = [Want("auto", company_patterns(number)) for number in range(8)]
    assert len(combined(wants[:7], passive_works=True).patterns) == 7
    assert combined(wants, passive_works=True) == Scan()
    assert combined([Want("passive", want.patterns) for want in wants], passive_works=True) == Scan()


# Errors


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (BleakDBusError("org.bluez.Error.NotReady", ["Resource Not Ready"]), "the adapter is switched off"),
        (BleakDBusError("org.freedesktop.DBus.Error.ServiceUnknown", ["?"]), "bluetoothd does not run"),
        (BleakDBusError("org.freedesktop.DBus.Error.AccessDenied", ["?"]), "must be in the group bluetooth"),
        (BleakDBusError("org.bluez.Error.Failed", ["Blocked through rfkill"]), "`rfkill unblock bluetooth`"),
        (
            BleakDBusError("org.bluez.Error.Failed", ["br-connection-unknown"]),
            "br-connection-unknown (org.bluez.Error.Failed)",
        ),
        (
            BleakBluetoothNotAvailableError("denied", BleakBluetoothNotAvailableReason.DENIED_BY_SYSTEM),
            "must be in the group bluetooth",
        ),
        (
            BleakBluetoothNotAvailableError(
                "No powered Bluetooth adapters found.", BleakBluetoothNotAvailableReason.POWERED_OFF
            ),
            "No powered Bluetooth adapters found.",
        ),
        (BleakDeviceNotFoundError(HERE), "bluetoothd does not know it any more"),
        (TimeoutError(), "bluetoothd does not answer"),
        (FileNotFoundError(2, "No such file"), "there is no D-Bus system bus"),
        (EOFError(), "EOFError"),
    ],
)
def test_what_bluez_means_is_said_in_words(error, told):
    assert told in explain(error)


# Configuration


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "Give at least one of `address`, `name`, `service` and `manufacturer`"),
        ({"address": "A4:C1:38:12:34"}, "must be like A4:C1:38:12:34:56"),
        ({"address": []}, "at least 1 item"),
        ({"service": "0x18"}, "write a short one like 0x181A"),
        ({"service": True}, "is no UUID"),
        ({"manufacturer": 0x10000}, "less than or equal to 65535"),
        ({"name": "x", "scan": "passive"}, "leave `scan` at auto"),
        ({"name": "x", "adapter": "bluetooth0"}, "must be like hci0, or be the adapter's address"),
        ({"name": "x", "interval": "0 s"}, "greater than 0"),
        ({"name": "x", "adress": HERE}, "Extra inputs are not permitted"),
    ],
)
def test_a_wrong_configuration_says_what_would_be_right(options, message):
    with pytest.raises(ValidationError, match=message):
        BleConfig(**options)


def test_names_are_taken_as_people_write_them():
    assert parse_address(" a4-c1-38-12-34-56 ") == "A4:C1:38:12:34:56"
    assert parse_adapter("hci12") == "hci12"
    assert parse_adapter("00:1a:7d:da:71:13") == "00:1A:7D:DA:71:13"
    assert (
        full_uuid(0x181A)
        == full_uuid("181a")
        == full_uuid("0x181A")
        == "0000181a-0000-1000-8000-00805f9b34fb"
    )
    assert full_uuid("6E400001-B5A3-F393-E0A9-E50E24DCCA9E") == "6e400001-b5a3-f393-e0a9-e50e24dcca9e"
    assert short_uuid(full_uuid(0x181A)) == 0x181A
    assert short_uuid("6e400001-b5a3-f393-e0a9-e50e24dcca9e") is None
    assert shown_uuid(full_uuid(0x2A6E)) == "0x2A6E"
    assert BleConfig(address=HERE.lower(), service="fcd2").address == [HERE]
