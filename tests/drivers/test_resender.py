"""Frames in, requests and frames with the right time out."""

import logging
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import ValidationError

from collectors.metadata_keys import FRAME_ERROR, UP_NS
from collectors.models import CollectedData, Reading
from drivers.codecs import codec
from drivers.serial.config import SerialConfig
from drivers.serial.resend import Request
from drivers.serial.resend_config import ResendConfig
from drivers.serial.resender import Resender

S = 1_000_000_000
START = datetime(2026, 5, 1, tzinfo=UTC)


class Time:
    def __init__(self):
        self.s = 100.0

    def now(self):
        return START + timedelta(seconds=self.s)

    def monotonic_s(self):
        return self.s

    def boottime_ns(self):
        return round(self.s * S)


@pytest.fixture
def time():
    return Time()


@pytest.fixture
def resender(time):
    decode = codec("json")
    config = ResendConfig(depth=20)
    return Resender(config, lambda raw: [item.values for item in decode(raw)], name="soil", clock=time)


def frame(time, number, *, ms, boot=7, raw=None, **metadata):
    said = raw or f'{{"boot": {boot}, "seq": {number}, "ms": {ms}}}'.encode()
    return CollectedData(
        source_id="soil",
        timestamp=time.now(),
        data_format="json",
        collection_method="serial",
        raw_data=said,
        metadata={UP_NS: time.boottime_ns()} | metadata,
    )


def take(resender, time, number, *, ms, **more):
    return resender.take(frame(time, number, ms=ms, **more))


def test_a_late_reading_gets_the_time_at_which_it_was_measured(resender, time):
    take(resender, time, 1, ms=1000)
    assert resender.request() == b""
    time.s += 3
    live = take(resender, time, 4, ms=4000)
    assert resender.request() == b"R7:2-3\n"
    time.s += 0.2
    late = take(resender, time, 2, ms=2000)
    assert live.timestamp == START + timedelta(seconds=103)
    assert late.timestamp == START + timedelta(seconds=101)
    assert late.metadata[UP_NS] == 101 * S
    assert resender.recovered == 1


def test_what_is_stored_already_goes_no_further(resender, time):
    take(resender, time, 1, ms=1000)
    take(resender, time, 3, ms=3000)
    resender.request()
    assert take(resender, time, 2, ms=2000) is not None
    assert take(resender, time, 2, ms=2000) is None


@pytest.mark.parametrize(
    ("raw", "metadata"),
    [
        (b"garbage", {FRAME_ERROR: "cut off"}),
        (b"{", {}),
        (b'{"id": "uno", "boot": 9}', {}),
        (b'{"boot": 9, "seq": 0, "ms": 1}', {}),
        (b'{"boot": 9, "seq": "one", "ms": 1}', {}),
        (b'{"boot": 9, "seq": 1, "ms": "now"}', {}),
        (b'{"boot": 1.5, "seq": 1, "ms": 1}', {}),
    ],
)
def test_what_does_not_say_which_reading_it_is_passes_untouched(resender, time, raw, metadata):
    take(resender, time, 1, ms=1000)
    data = frame(time, 0, ms=0, raw=raw, **metadata)
    assert resender.take(data) is data
    take(resender, time, 2, ms=2000)
    assert resender.request() == b""


def stored(number, *, ms, up, boot=7):
    values = {"boot": boot, "seq": number, "ms": ms, "celsius": 20.5}
    return Reading(source="soil", t=0.0, values=values, up=round(up * S))


def test_after_a_restart_of_ours_an_answer_to_the_run_before_is_not_taken_for_live(resender, time):
    resender.resume([stored(number, ms=1000 * number, up=60 + number) for number in (1, 2, 3, 19, 20)])
    resender.reconnected()
    late = take(resender, time, 7, ms=7000)
    assert late.timestamp == START + timedelta(seconds=67)
    assert resender.request() == b""
    take(resender, time, 40, ms=40_000)
    assert resender.request() == b"R7:21-39\n", "4 to 19 have left the ring by now"
    assert resender.lost == 14


def test_what_the_run_before_asked_for_and_stored_is_not_stored_again_when_it_comes_twice(resender, time):
    resender.resume([stored(number, ms=1000 * number, up=60 + number) for number in (1, 2, 3, 5, 6)])
    resender.reconnected()
    assert [take(resender, time, number, ms=1000 * number) for number in (5, 6)] == [None, None]
    assert take(resender, time, 4, ms=4000) is not None
    assert take(resender, time, 7, ms=7000) is not None
    assert resender.request() == b"", "and no new start of the sensor was made of it"


def test_a_sensor_that_counts_anew_without_saying_so_is_not_held_for_a_repetition(resender, time):
    resender.resume([stored(number, ms=1000 * number, up=60 + number) for number in (1, 2, 3)])
    resender.reconnected()
    assert take(resender, time, 1, ms=1001) is not None, "measured at another time"
    take(resender, time, 30, ms=30_000)  # the ring holds 11 to 30 now
    assert take(resender, time, 2, ms=2000) is not None


def test_uptimes_of_another_boot_of_this_machine_say_nothing(resender, time):
    resender.resume([stored(1, ms=1000, up=0), stored(2, ms=2000, up=0)])
    resender.reconnected()
    assert take(resender, time, 3, ms=3000).timestamp == time.now()


def test_a_frame_of_several_readings_goes_on_unless_all_are_stored(resender, time):
    def several(*numbers):
        said = ",".join(f'{{"boot": 7, "seq": {n}, "ms": {n * 1000}}}' for n in numbers)
        return frame(time, 0, ms=0, raw=f"[{said}]".encode())

    resender.take(several(1, 2))
    resender.take(several(5, 6))
    assert resender.request() == b"R7:3-4\n"
    assert resender.take(several(3)) is not None
    assert resender.take(several(3, 4)) is not None
    assert resender.take(several(3, 4)) is None


def test_what_was_missing_is_told_once_a_minute(resender, time, caplog):
    caplog.set_level(logging.INFO)
    number = 1
    for _ in range(90):
        take(resender, time, number, ms=1000 * number)
        resender.request()
        take(resender, time, number + 2, ms=1000 * (number + 2))
        resender.request()
        take(resender, time, number + 1, ms=1000 * (number + 1))
        resender.request()
        number += 3
        time.s += 1
    assert [record.getMessage() for record in caplog.records] == [
        "soil: 1 missing readings came when the sensor was asked for them, 0 are lost",
        "soil: 59 missing readings came when the sensor was asked for them, 0 are lost",
    ]


@pytest.mark.parametrize(
    ("template", "sent"),
    [
        ("R{boot}:{first}-{last}\n", b"R7:1-20\n"),
        ("\u0002GET {first} {last}\u0003", b"\x02GET 1 20\x03"),
        ("{{{first},{last}}}\u00ff", b"{1,20}\xff"),
    ],
)
def test_requests_are_as_the_sensor_wants_them(template, sent):
    assert ResendConfig(depth=1, request=template).render(Request(7, 1, 20)) == sent


@pytest.mark.parametrize(
    "template",
    [
        "R{first}",
        "R{first}{last}{x}",
        "{first",
        "{first!r}{last}",
        "{first:>4}{last}",
        "{}{first}{last}",
        "\u20ac{first}{last}",
    ],
)
def test_other_requests_are_refused(template):
    with pytest.raises(ValidationError, match="request"):
        ResendConfig(depth=1, request=template)


def test_it_belongs_to_the_configuration_of_a_serial_source():
    config = SerialConfig(port="/dev/ttyUSB0", resend={"depth": 160})
    assert config.resend == ResendConfig(depth=160)
    for wrong in ({}, {"depth": 0}, {"depth": 1 << 20}, {"depth": 1, "counter": ""}, {"depth": 1, "x": 1}):
        with pytest.raises(ValidationError):
            SerialConfig(port="/dev/ttyUSB0", resend=wrong)


def test_a_device_that_is_polled_cannot_be_asked_for_what_is_missing():
    with pytest.raises(ValidationError, match="`resend` is for a device that speaks by itself"):
        SerialConfig(port="/dev/ttyUSB0", resend={"depth": 9}, poll={"request": "?", "interval": 1})
