"""What goes wrong at a port: each has its own message and counter, and costs no good frame beside it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import os
import random
import signal
import stat
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.clock import SystemClock
from collectors.metadata_keys import FRAME_ERROR
from drivers.framing import FRAMINGS, FrameError
from drivers.serial import diagnosis
from drivers.serial import observer as observer_module
from drivers.serial import port as port_module
from drivers.serial.config import SerialConfig
from drivers.serial.diagnosis import LineErrors, advice, line_errors, missing_permission, stable_name, why_not
from drivers.serial.garbage import KEPT_BURST, BaudrateDoubt, Ration, _is_text
from drivers.serial.link import SerialLink
from drivers.serial.source import SerialSource
from drivers.serial.trouble import PortError, TroubleKind
from drivers.serial.usb import UsbConfig, find_port
from tests.drivers.serial_sources import connected, make
from tests.rigs.pty import PtySensor, SocketSensor

COBS = FRAMINGS.choose("cobs")


@pytest.fixture
async def pty(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        yield sensor


@pytest.fixture(params=["pty", "socket"])
async def sensor(request, tmp_path):
    async with PtySensor(tmp_path) if request.param == "pty" else SocketSensor() as sensor:
        yield sensor


async def stream_of(source, count):
    items = []
    async with asyncio.timeout(20):
        stream = source.collect_stream()
        while len(items) < count:
            items.append(await anext(stream))
        await stream.aclose()
    return items


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def good(items):
    return [item.raw_data for item in items if FRAME_ERROR not in item.metadata]


async def test_each_kind_of_broken_frame_is_counted_and_costs_none_beside_it(sensor):
    broken = {
        "none": b"\x00",
        "wrong_crc": COBS.encode(b"1")[:-1].replace(b"1", b"2") + b"\0",
        "half_frame": b"\x20abc\0",
        "too_long": COBS.model_copy(update={"max_frame": 500}).encode(b"x" * 400),
    }
    async with connected(sensor.port, framing={"type": "cobs", "max_frame": 300}) as source:
        stream = b"".join(COBS.encode(b"%d" % number) + bad for number, bad in enumerate(broken.values()))
        await sensor.write(stream + COBS.encode(b"4") + b"\x05half")
        items = await stream_of(source, 8)
        assert good(items) == [b"0", b"1", b"2", b"3", b"4"]
        reasons = [item.metadata[FRAME_ERROR] for item in items if FRAME_ERROR in item.metadata]
        assert len(set(reasons)) == 3
        assert source.troubles == {"wrong_crc": 1, "half_frame": 1, "too_long": 1}


async def test_noise_between_frames_is_counted_once_a_stretch(sensor):
    async with connected(sensor.port, framing={"type": "delimited", "start": "<", "end": ">"}) as source:
        await sensor.write(b"<0>\r\n<1>\xff\xfe?\r\n<2>>>  <3>")
        items = await stream_of(source, 6)
        assert good(items) == [b"0", b"1", b"2", b"3"]
        assert "belong to no frame" in items[2].metadata[FRAME_ERROR]
        assert source.troubles == {"noise": 2}


async def test_a_frame_cut_off_by_unplugging_is_counted_and_so_is_the_loss(sensor):
    async with connected(sensor.port, framing="cobs") as source:
        await sensor.write(COBS.encode(b"1") + b"\x05half")
        assert good(await stream_of(source, 1)) == [b"1"]
        await until(lambda: source._link.queued_bytes or source._link.framer._partial)
        await sensor.unplug()
        stream = source.collect_stream()
        assert "before its terminator" in (await anext(stream)).metadata[FRAME_ERROR]
        with pytest.raises(PortError) as caught:
            await anext(stream)
        assert caught.value.kind is TroubleKind.LOST
        assert source.troubles == {"cut_off": 1, "lost": 1}


# Silence


async def test_silence_is_told_and_ends_the_connection(sensor):
    async with connected(sensor.port, silent_after=0.1) as source:
        await sensor.write(b"1\n")
        assert good(await stream_of(source, 1)) == [b"1"]
        with pytest.raises(PortError, match=r"no good frame for 0\.1 s \(`silent_after`\)") as caught:
            await stream_of(source, 1)
        assert caught.value.kind is TroubleKind.SILENT
        assert source.troubles == {"silent": 1}
        await source.disconnect()
        await source.connect()
        with pytest.raises(PortError, match=r"nothing for 0\.1 s"):
            await stream_of(source, 1)


async def test_garbage_does_not_count_as_a_sign_of_life(pty):
    async with connected(pty.port, silent_after=0.15, framing="cobs") as source, asyncio.TaskGroup() as group:

        async def chatter():
            while True:
                await pty.write(b"\x30garbage\0")
                await asyncio.sleep(0.01)

        chattering = group.create_task(chatter())
        with pytest.raises(PortError, match="no good frame"):
            await stream_of(source, 1000)
        chattering.cancel()


async def test_frames_in_time_keep_it_open(pty):
    async with connected(pty.port, silent_after=0.3) as source:
        for number in range(8):
            await asyncio.sleep(0.08)
            await pty.write(b"%d\n" % number)
            assert good(await stream_of(source, 1)) == [b"%d" % number]
        assert not source.troubles


async def test_who_did_not_take_what_came_is_not_told_that_the_device_was_silent(sensor):
    line = b"%063d\n" % 7
    async with connected(sensor.port, silent_after=0.2) as source:
        sending = asyncio.create_task(sensor.write(line * 10_000))
        await until(lambda: source._link.is_flooded)
        await asyncio.sleep(0.3)  # longer than the silence
        assert len(await stream_of(source, 10_000)) == 10_000
        await sending


# Floods


async def test_a_flood_is_told_counted_and_loses_nothing_where_the_device_can_wait(sensor, caplog):
    line = b"%063d\n" % 7
    async with connected(sensor.port) as source:
        sending = asyncio.create_task(sensor.write(line * 10_000))
        await until(lambda: source._link.is_flooded)
        assert source.remarks == ["the device sends faster than its frames are taken: bytes may be lost"]
        assert source.troubles["flood"] == 1
        assert good(await stream_of(source, 10_000)) == [line[:-1]] * 10_000
        await sending
        assert source.remarks == []
        floods = source.troubles["flood"]
    assert source.troubles["flood"] == floods >= 1
    assert len([r for r in caplog.records if "sends faster than its frames are taken" in r.message]) == 1


async def test_a_line_that_is_stuck_on_a_byte_leaves_turns_to_others():
    """Each of its bytes is a false beginning, with a long frame behind it to check."""
    turns = 0

    async def other():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    framing = FRAMINGS.choose({"type": "length_prefixed", "sync": [15], "crc": "crc16_modbus"})
    link = SerialLink("port", framing.framer(), SystemClock())
    link.data_received(b"\x0f" * 4700)
    link.connection_lost(None)
    others = asyncio.create_task(other())
    assert isinstance((await link.next_arrival()).frame, FrameError)
    assert turns >= 7
    others.cancel()
    with pytest.raises(asyncio.CancelledError):
        await others


async def test_a_flood_of_garbage_is_counted_and_only_part_of_it_given_out(pty):
    async with connected(pty.port, framing="cobs") as source:
        sending = asyncio.create_task(pty.write(b"\x30garbage\0" * 1000 + COBS.encode(b"good")))
        begun_s, kept = time.monotonic(), 0
        stream = source.collect_stream()
        while FRAME_ERROR in (data := await anext(stream)).metadata:
            kept += 1
        await stream.aclose()
        assert data.raw_data == b"good"
        await sending
        assert KEPT_BURST <= kept <= KEPT_BURST + (time.monotonic() - begun_s) + 1
        # Of the first we cannot know that it was none.
        assert source.troubles == {"half_frame": 999, "not_kept": 999 - kept, "wrong_baudrate": 1}


@given(st.lists(st.floats(0, 10), max_size=400))
def test_the_ration_is_never_exceeded(pauses):
    now, taken = 1000.0, 0
    ration = Ration(now)
    for pause in pauses:
        now += pause
        taken += ration.take(now)
        assert taken <= KEPT_BURST + (now - 1000.0) + 1e-6


# A wrong baud rate


async def test_nothing_but_garbage_raises_a_doubt_about_the_baud_rate(pty, caplog):
    rng = random.Random(5)
    async with connected(pty.port, baudrate=9600) as source:
        noise = b"\n".join(bytes(rng.choices(range(128, 256), k=20)) for _ in range(10)) + b"\n"
        await pty.write(noise)
        await stream_of(source, 10)
        (remark,) = source.remarks
        assert "nothing but garbage since the port was opened: are 9600 baud and parity none right" in remark
        assert source.troubles["wrong_baudrate"] == 1
        await pty.write(b"21.5\n")
        await stream_of(source, 1)
        assert source.remarks == []
    assert [r.message for r in caplog.records if "nothing but garbage" in r.message] == [f"s: {remark}"]


async def test_garbage_after_good_frames_raises_none(pty):
    async with connected(pty.port) as source:
        await pty.write(b"21.5\n" + b"\xff\xfe\n" * 20)
        await stream_of(source, 21)
        assert not source.remarks
        assert not source.troubles


async def test_what_the_uart_counts_is_part_of_the_doubt(pty, monkeypatch):
    counted = iter([LineErrors(5, 0, 1, 0), LineErrors(17, 2, 1, 1), LineErrors(17, 2, 1, 1)])
    monkeypatch.setattr(port_module, "line_errors", lambda _: next(counted))
    monkeypatch.setattr(observer_module, "line_errors", lambda _: next(counted))
    async with connected(pty.port, framing="cobs") as source:
        await pty.write(b"\x30garbage\0" * 10)
        await stream_of(source, 9)
        assert "(the UART counts 12 bytes without a stop bit)" in source.remarks[0]
        assert source.troubles["line_framing"] == 12
        assert source.troubles["line_parity"] == 2
        assert source.troubles["line_break"] == 1


async def test_a_uart_that_does_not_answer_holds_nothing_up(pty, monkeypatch):
    import threading

    release = threading.Event()
    monkeypatch.setattr(port_module, "line_errors", lambda _: LineErrors(0, 0, 0, 0))
    monkeypatch.setattr(observer_module, "line_errors", lambda _: release.wait(20))
    monkeypatch.setattr(observer_module, "UART_TIMEOUT_S", 0.05)
    async with connected(pty.port, framing="cobs") as source:
        await pty.write(b"\x30garbage\0" * 10)
        async with asyncio.timeout(2):
            await stream_of(source, 9)
    release.set()


def test_line_errors_are_those_since_the_port_was_opened():
    assert LineErrors(5, 4, 3, 2).since(LineErrors(1, 4, 0, 0)) == LineErrors(4, 0, 3, 2)
    assert LineErrors(1, 0, 0, 0).since(LineErrors(5, 0, 0, 0)) == LineErrors(
        0, 0, 0, 0
    )  # a driver loaded anew


def test_the_counters_of_the_kernel_are_read_where_they_are(monkeypatch):
    def ioctl(descriptor, request, buffer):
        assert (descriptor, request, len(buffer)) == (7, 0x545D, 80)
        return b"".join(number.to_bytes(4, sys.byteorder) for number in range(1, 21))

    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    assert line_errors(7) == LineErrors(framing=7, parity=9, overrun=8 + 11, breaks=10)


async def test_a_pseudo_terminal_counts_no_line_errors(pty):
    assert line_errors(pty._slave) is None


@given(st.lists(st.binary(min_size=1, max_size=8), max_size=20))
def test_a_doubt_arises_once_and_ends_with_the_first_good_frame(frames):
    doubt = BaudrateDoubt(is_text=True)
    arose = 0
    for frame in frames:
        before = doubt.doubts
        arose += doubt.see(frame)
        if _is_text(frame):
            assert not doubt.doubts
        elif before:
            assert doubt.doubts
    assert arose <= 1
    assert not doubt.see(b"text")
    assert not doubt.doubts


# A device that restarts when its port is opened


async def test_what_a_restarting_device_says_is_no_error_and_no_good_frame_is_lost(sensor):
    async with connected(sensor.port, settle=1.0, framing="cobs") as source:
        await sensor.write(COBS.encode(b"1") + b"\x30boot noise\0" + COBS.encode(b"2") + b"\x09cut off b")
        await until(lambda: source._link.framer.counts.frames or source._link.queued_bytes)
        assert good(await stream_of(source, 2)) == [b"1", b"2"]
        collecting = asyncio.create_task(stream_of(source, 1))
        await asyncio.sleep(0.5)  # the board restarts: what it had begun to say will not end
        await sensor.write(COBS.encode(b"3"))
        assert good(await collecting) == [b"3"]
        assert not source.troubles


async def test_after_that_errors_are_errors(pty):
    async with connected(pty.port, settle=0.05, framing="cobs") as source:
        await asyncio.sleep(0.06)
        await pty.write(COBS.encode(b"1") + b"\x30garbage\0")
        assert len(await stream_of(source, 2)) == 2
        assert source.troubles == {"half_frame": 1}


async def test_the_modem_lines_are_set_as_configured(pty, monkeypatch):
    set_to = []
    monkeypatch.setattr(
        port_module.Port, "_update_dtr_state", lambda port: set_to.append(("dtr", port._dtr_state))
    )
    monkeypatch.setattr(
        port_module.Port, "_update_rts_state", lambda port: set_to.append(("rts", port._rts_state))
    )
    async with connected(pty.port):
        pass
    async with connected(pty.port, dtr=False, rts=False):
        pass
    assert set_to == [("dtr", True), ("rts", True), ("dtr", False), ("rts", False)]


@pytest.mark.parametrize("hangup", [True, False])
async def test_the_port_hangs_up_or_not_when_it_is_closed(pty, hangup):
    import termios

    async with connected(pty.port, hangup=hangup):
        control = termios.tcgetattr(pty._slave)[2]
        assert bool(control & termios.HUPCL) is hangup


async def test_flow_control_is_set_as_configured(pty):
    import termios

    async with connected(pty.port, flow_control="rtscts"):
        assert termios.tcgetattr(pty._slave)[2] & termios.CRTSCTS
    async with connected(pty.port, flow_control="xonxoff"):
        assert termios.tcgetattr(pty._slave)[0] & (termios.IXON | termios.IXOFF)
    async with connected(pty.port):
        assert not termios.tcgetattr(pty._slave)[0] & (termios.IXON | termios.IXOFF)


# Who holds it, and who may not


@contextlib.contextmanager
def held_by_another(port, *, locks):
    lock = "import fcntl; fcntl.flock(f, fcntl.LOCK_EX); " if locks else ""
    code = f"import os, time; f = os.open({str(port)!r}, os.O_RDWR | os.O_NOCTTY); {lock}print('open', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "open\n"
        try:
            yield other.pid
        finally:
            other.send_signal(signal.SIGKILL)


async def test_who_holds_the_port_is_named_and_it_is_free_again_when_he_ends(pty):
    source = make(pty.port)
    with held_by_another(pty.port, locks=True) as pid:
        with pytest.raises(PortError, match=rf"another program holds it: python\S* \(pid {pid}\)") as caught:
            await source.connect()
        assert caught.value.kind is TroubleKind.BUSY
        assert source.troubles == {"busy": 1}
    await source.connect()
    await source.disconnect()


async def test_two_sources_on_one_port_are_told_so(pty):
    async with connected(pty.port):
        with pytest.raises(PortError, match="this one itself: is the port in two sources"):
            await make(pty.port).connect()


async def test_who_has_a_real_port_open_without_a_lock_is_named(pty, monkeypatch, caplog):
    monkeypatch.setattr(diagnosis, "_PTS_MAJORS", range(0))
    with held_by_another(pty.port, locks=False) as pid:
        async with connected(pty.port) as source:
            (remark,) = source.remarks
            assert f"(pid {pid}) has {pty.port} open, too" in remark
            assert source.troubles == {"shared": 1}
    assert f"s: {remark}" in [record.message for record in caplog.records]


async def test_missing_permission_is_a_kind_of_its_own(pty, monkeypatch):
    def refused(*_args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refused)
    source = make(pty.port)
    with pytest.raises(PortError, match="no permission") as caught:
        await source.connect()
    assert caught.value.kind is TroubleKind.NO_PERMISSION
    assert source.troubles == {"no_permission": 1}


@pytest.fixture
def user(monkeypatch):
    """A user like pi, and the group dialout, which may be one of its own."""

    def made(*, groups=(), members=(), mode=0o20660):
        monkeypatch.setattr(
            diagnosis.Path, "stat", lambda _: SimpleNamespace(st_gid=20, st_mode=mode | stat.S_IFCHR)
        )
        group = SimpleNamespace(gr_name="dialout", gr_mem=list(members), gr_gid=20)
        monkeypatch.setattr(diagnosis.grp, "getgrgid", lambda _: group)
        monkeypatch.setattr(diagnosis.pwd, "getpwuid", lambda _: SimpleNamespace(pw_name="pi", pw_gid=1000))
        monkeypatch.setattr(os, "getegid", lambda: 1000)
        monkeypatch.setattr(os, "getgroups", lambda: list(groups))

    return made


def test_which_group_is_missing_and_how_to_get_it(user):
    user()
    assert (
        "the group dialout, which the user pi must be in: sudo usermod -aG dialout pi"
        in missing_permission("/dev/ttyUSB0", errno.EACCES)
    )
    user(members=["pi"])
    assert "log in again, or restart the service" in missing_permission("/dev/ttyUSB0", errno.EACCES)
    user(groups=[20], mode=0o20600)
    assert "may not read and write it (crw-------)" in missing_permission("/dev/ttyUSB0", errno.EACCES)
    assert "DeviceAllow=" in missing_permission("/dev/ttyUSB0", errno.EPERM)


def test_a_user_without_a_name_is_told_the_group_as_well(user, monkeypatch):
    user()

    def unknown(_):
        raise KeyError("getpwuid(): uid not found: 4711")

    monkeypatch.setattr(diagnosis.pwd, "getpwuid", unknown)
    message = missing_permission("/dev/ttyUSB0", errno.EACCES)
    assert "it belongs to the group dialout, which this program must be in" in message
    assert "--group-add 20" in message


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENXIO, TroubleKind.NO_PORT, "does not answer: is it plugged in"),
        (errno.EIO, TroubleKind.NO_PORT, "does not answer: is it plugged in"),
        (errno.ENOENT, TroubleKind.NO_PORT, "no such port: is it plugged in"),
    ],
)
def test_what_the_system_says_is_put_into_words(code, kind, message):
    error = why_not(SerialConfig(port="/dev/ttyUSB9"), "/dev/ttyUSB9", OSError(code, "x"))
    assert error.kind is kind
    assert message in str(error)


# Names that stay


def test_a_name_that_may_change_is_advised_against(tmp_path, monkeypatch):
    monkeypatch.setattr(diagnosis, "BY_ID", tmp_path / "by-id")
    assert "use its name in" in advice("/dev/ttyUSB0")[0]
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "usb-FTDI-if00").symlink_to("/dev/ttyUSB0")
    assert stable_name("/dev/ttyUSB0") == f"{tmp_path}/by-id/usb-FTDI-if00"
    assert advice("/dev/ttyUSB0") == [
        f"/dev/ttyUSB0 may come back under another name when it is unplugged: use {tmp_path}/by-id/usb-FTDI-if00"
    ]
    assert SerialConfig(port="/dev/ttyUSB0").advice(refuses_half=True) == advice("/dev/ttyUSB0")
    for stable in ("/dev/serial/by-id/usb-FTDI-if00", "/dev/ttyS0", "/dev/ttyAMA0", "socket://a:1"):
        assert SerialConfig(port=stable).advice(refuses_half=True) == []


def adapter(device, vid, pid, serial=None, location="1-1"):
    return SimpleNamespace(device=device, vid=vid, pid=pid, serial_number=serial, location=location)


PORTS = [
    adapter("/dev/ttyS0", None, None),
    adapter("/dev/ttyUSB0", 0x0403, 0x6001, "A1"),
    adapter("/dev/ttyUSB1", 0x0403, 0x6001, "B2"),
    adapter("/dev/ttyUSB2", 0x0403, 0x6010, "C3", "1-1.2:1.0"),
    adapter("/dev/ttyUSB3", 0x0403, 0x6010, "C3", "1-1.2:1.1"),
    adapter("/dev/ttyACM0", 0x2341, 0x0043),
]


@pytest.mark.parametrize(
    ("wanted", "device"),
    [
        ({"vendor": "2341", "product": "0043"}, "/dev/ttyACM0"),
        ({"vendor": 0x2341, "product": 0x0043}, "/dev/ttyACM0"),
        ({"vendor": "0403", "product": "6001", "serial": "B2"}, "/dev/ttyUSB1"),
        ({"vendor": "0403", "product": "6010", "interface": 1}, "/dev/ttyUSB3"),
    ],
)
def test_an_adapter_is_found_by_what_it_is(wanted, device):
    assert find_port(UsbConfig.model_validate(wanted), lambda: PORTS) == device


@pytest.mark.parametrize(
    ("wanted", "ports", "message"),
    [
        (
            {"vendor": "1a86", "product": "7523"},
            PORTS,
            r"USB 1a86:7523: not plugged in: there are /dev/ttyUSB0 \(0403:6001 serial A1",
        ),
        (
            {"vendor": "1A86", "product": "7523", "serial": "x"},
            [],
            "USB 1a86:7523 serial x: not plugged in: there is no USB",
        ),
        (
            {"vendor": "0403", "product": "6001"},
            PORTS,
            "2 ports match: name one by its `serial` or `interface`: /dev/ttyUSB0",
        ),
    ],
)
def test_an_adapter_that_is_not_found_is_told(wanted, ports, message):
    with pytest.raises(PortError, match=message) as caught:
        find_port(UsbConfig.model_validate(wanted), lambda: ports)
    assert caught.value.kind is TroubleKind.NO_PORT


async def test_an_adapter_that_comes_back_under_another_name_is_found_again(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, second = PtySensor(tmp_path / "a"), PtySensor(tmp_path / "b")
    plugged = []
    monkeypatch.setattr(
        "serial.tools.list_ports.comports", lambda: [adapter(one.port, 0x2341, 0x43) for one in plugged]
    )
    config = SerialConfig(usb=UsbConfig(vendor="2341", product="0043"))
    source = SerialSource("s", config, data_format="json", clock=SystemClock())
    with pytest.raises(PortError, match="USB 2341:0043: not plugged in"):
        await source.connect()
    for sensor in (first, second):
        async with sensor:
            plugged[:] = [sensor]
            await source.connect()
            await sensor.write(b"1\n")
            assert (await source.collect()).raw_data == b"1"
        with pytest.raises(PortError, match="USB 2341:0043: connection lost"):
            await source.collect()
    plugged.clear()
    await source.disconnect()


async def test_a_program_that_was_held_up_does_not_blame_the_device(pty):
    async with connected(pty.port, silent_after=0.1) as source:
        await stream_of_nothing(source)
        await pty.write(b"1\n")
        time.sleep(0.3)  # noqa: ASYNC251 (meant): the whole loop stands still, and cannot read
        assert good(await stream_of(source, 1)) == [b"1"]


async def stream_of_nothing(source):
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.02):
            await source._link.next_arrival()
