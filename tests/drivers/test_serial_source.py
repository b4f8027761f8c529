"""The serial driver on real pseudo-terminals and sockets."""

import asyncio
import contextlib
import random
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
from blockbuster import BlockBuster, BlockingError

from collectors.clock import SystemClock
from collectors.metadata_keys import FRAME_ERROR, UP_NS
from drivers.serial import diagnosis
from drivers.serial import link as link_module
from drivers.serial import port as port_module
from drivers.serial.link import PIECE_BYTES, QUEUE_BYTES_MAX
from tests.drivers.serial_sources import connected, make
from tests.rigs.pty import PtySensor, SocketSensor


@pytest.fixture(autouse=True)
def nothing_blocks_the_loop():
    # The rig's own file calls are not what is tested.
    blockbuster = BlockBuster(scanned_modules=["drivers", "serial", "serial_asyncio_fast"])
    blockbuster.activate()
    yield
    blockbuster.deactivate()


@pytest.fixture
async def pty(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        yield sensor


@pytest.fixture(params=["pty", "socket"])
async def sensor(request, tmp_path):
    async with PtySensor(tmp_path) if request.param == "pty" else SocketSensor() as sensor:
        yield sensor


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_line_becomes_collected_data_stamped_at_arrival(sensor):
    clock = SystemClock()
    async with connected(sensor.port) as source:
        before, up_before = datetime.now(UTC), clock.boottime_ns()
        await sensor.write(b'{"t": 21.5}\r\n')
        data = await source.collect()
        assert before <= data.timestamp <= datetime.now(UTC)
        assert up_before <= data.metadata[UP_NS] <= clock.boottime_ns()
    assert data.source_id == source.get_source_id() == "s"
    assert data.raw_data == b'{"t": 21.5}'
    assert data.data_format == "json"
    assert data.collection_method == "serial"
    assert FRAME_ERROR not in data.metadata


async def test_the_stamp_is_that_of_the_arrival_not_of_the_collecting(pty):
    clock = SystemClock()
    async with connected(pty.port) as source:
        await pty.write(b"1\n")
        await until(lambda: source._link.queued_bytes == 2)
        arrived = clock.boottime_ns()
        await asyncio.sleep(0.02)
        assert (await source.collect()).metadata[UP_NS] <= arrived


async def test_lines_split_over_many_writes_come_out_once_and_in_order(sensor):
    lines = [b'{"n": %d}' % n for n in range(300)]
    stream = b"".join(line + b"\n" for line in lines)
    rng = random.Random(1)

    async def send():
        position = 0
        while position < len(stream):
            size = rng.randint(1, 40)
            await sensor.write(stream[position : position + size])
            position += size
            await asyncio.sleep(0)

    async with connected(sensor.port) as source, asyncio.TaskGroup() as group:
        group.create_task(send())
        assert [(await source.collect()).raw_data for _ in lines] == lines


async def test_garbage_and_overlong_lines_are_reported_and_cost_no_good_line(sensor):
    noise = bytes(byte for byte in random.Random(7).randbytes(30_000) if byte != 10)
    async with (
        connected(sensor.port, framing={"type": "lines", "max_frame": 1000}) as source,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(
            sensor.write(b"one\n" + noise + b"\ntwo\n" + b"z" * 1001 + b"\nthree\n\xff\x00\nfour\n")
        )
        stream = source.collect_stream()
        items = [await anext(stream) for _ in range(7)]
        await stream.aclose()
    assert [item.raw_data for item in items] == [
        b"one",
        noise[:1000],
        b"two",
        b"z" * 1000,
        b"three",
        b"\xff\x00",  # framing does not judge: the codec will
        b"four",
    ]
    errors = [item.metadata[FRAME_ERROR] for item in items if FRAME_ERROR in item.metadata]
    assert len(errors) == 2
    assert all("within 1000 bytes" in error for error in errors)
    assert source.frame_counts.dropped_bytes == len(noise) + 1001


async def test_collect_raises_value_error_for_what_is_no_frame(pty):
    async with connected(pty.port, framing={"type": "lines", "max_frame": 3}) as source:
        await pty.write(b"12345\nok\n")
        with pytest.raises(ValueError, match="within 3 bytes"):
            await source.collect()
        assert (await source.collect()).raw_data == b"ok"


async def test_a_first_frame_that_may_lack_its_beginning_can_be_discarded(pty):
    async with connected(pty.port, framing={"type": "lines", "first_frame": "discard"}) as source:
        await pty.write(b"3.5\n23.6\n")
        assert (await source.collect()).raw_data == b"23.6"
        assert source.frame_counts.skipped == 1


async def test_another_terminator(pty):
    async with connected(pty.port, framing={"type": "lines", "terminator": "\x00"}) as source:
        await pty.write(b"a\nb\x00")
        assert (await source.collect()).raw_data == b"a\nb"


async def test_unplugging_raises_and_connecting_again_goes_on(sensor):
    async with connected(sensor.port) as source:
        for turn in range(5):
            await source.connect()
            await sensor.write(b"%d\n" % turn)
            assert (await source.collect()).raw_data == b"%d" % turn
            await sensor.unplug()
            with pytest.raises(ConnectionError, match=sensor.port):
                async with asyncio.timeout(5):
                    await source.collect()
            with pytest.raises(ConnectionError):
                await source.connect()
            await sensor.plug()


async def test_unplugging_ends_a_stream_that_waits(sensor):
    async with connected(sensor.port) as source:
        waiting = asyncio.create_task(anext(source.collect_stream()))
        await sensor.write(b"half a li")
        await until(lambda: source._link.framer._partial)
        await sensor.unplug()
        data = await waiting  # what has no end is shown, not dropped
        assert "before its terminator" in data.metadata[FRAME_ERROR]
        assert data.raw_data == b"half a li"
        with pytest.raises(ConnectionError):
            await source.collect()
        with pytest.raises(ConnectionError):  # and keeps saying so
            await source.collect()


async def test_what_arrived_before_the_loss_is_given_out_first(tmp_path):
    async with SocketSensor() as sensor, connected(sensor.port) as source:
        await sensor.write(b"".join(b"%d\n" % n for n in range(1000)))
        await sensor.hang_up()
        assert [int((await source.collect()).raw_data) for n in range(1000)] == list(range(1000))
        with pytest.raises(ConnectionError, match="the other side closed"):
            await source.collect()


def descriptor_count():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_fifty_replugs_leak_no_descriptor_and_no_thread(pty):
    source = make(pty.port)

    async def replug(turn):
        await source.connect()
        await pty.write(b"%d\n" % turn)
        assert (await source.collect()).raw_data == b"%d" % turn
        await pty.unplug()
        with pytest.raises(ConnectionError):
            await source.collect()
        await pty.plug()

    for turn in range(5):
        await replug(turn)
    descriptors = descriptor_count()
    for turn in range(50):
        await replug(turn)
    await source.disconnect()
    assert descriptor_count() == descriptors
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("outstation-")]


async def test_disconnecting_twice_or_without_connecting_is_harmless(sensor):
    source = make(sensor.port)
    await source.disconnect()
    await source.connect()
    await source.connect()
    await source.disconnect()
    await source.disconnect()
    with pytest.raises(ConnectionError, match="not open"):
        await source.collect()
    with pytest.raises(ConnectionError, match="not open"):
        await anext(source.collect_stream())


async def test_disconnecting_ends_a_stream_that_waits(sensor):
    async with connected(sensor.port) as source:
        waiting = asyncio.create_task(source.collect())
        await asyncio.sleep(0)
        await source.disconnect()
        with pytest.raises(ConnectionError, match="closed"):
            await waiting


async def test_a_cancelled_collect_loses_no_line(sensor):
    async with connected(sensor.port) as source:
        waiting = asyncio.create_task(source.collect())
        await asyncio.sleep(0.01)
        await sensor.write(b"1\n2\n")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert [(await source.collect()).raw_data for _ in range(2)] == [b"1", b"2"]


async def test_nobody_collecting_stops_reading_at_the_limit_and_nothing_is_lost(sensor):
    line = b'{"t": 21.5, "rh": 40, "n": 123456}\n'
    total = 2_000_000 // len(line)
    async with connected(sensor.port) as source:
        sending = asyncio.create_task(sensor.write(line * total))
        await until(lambda: source._link._paused)
        # One read may overshoot; asyncio reads sockets in 256 KiB.
        highest = source._link.queued_bytes
        assert highest <= QUEUE_BYTES_MAX + 256 * 1024
        for _ in range(total):
            assert (await source.collect()).raw_data == line[:-1]
            highest = max(highest, source._link.queued_bytes)
            assert len(source._link._frames) <= PIECE_BYTES
        await sending
        assert highest <= QUEUE_BYTES_MAX + 256 * 1024


async def test_a_flooding_device_leaves_turns_to_others(sensor):
    turns = 0

    async def other():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with connected(sensor.port) as source:
        tasks = [asyncio.create_task(sensor.write(b"12345678\n" * 100_000)), asyncio.create_task(other())]
        await until(lambda: source._link._paused)
        before = turns
        for _ in range(7000):  # about what is queued: no waiting for new bytes
            await source.collect()
        assert turns - before >= 7000 * 9 // PIECE_BYTES
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_a_peer_that_reads_nothing_does_not_hold_up_closing(pty):
    source = make(pty.port)
    await source.connect()
    source._link._transport.write(b"y" * 2_000_000)
    assert source._link._transport.get_write_buffer_size() > 1_000_000
    async with asyncio.timeout(2):
        await source.disconnect()
    await source.connect()  # the port is really free again
    await source.disconnect()


async def test_a_peer_that_reads_nothing_does_not_hold_up_closing_after_a_loss(pty):
    source = make(pty.port)
    await source.connect()
    transport = source._link._transport
    transport.write(b"y" * 2_000_000)
    transport.close()  # graceful: waits for the peer
    async with asyncio.timeout(2):
        await source.disconnect()
    assert not source._link.is_open


async def test_an_adapter_stuck_in_open_is_reported_and_holds_one_thread_only(pty, monkeypatch):
    release = threading.Event()
    opened = []
    real = port_module.open_device

    def stuck(config):
        release.wait()
        opened.append(real(config))
        return opened[-1]

    monkeypatch.setattr(port_module, "open_device", stuck)
    source = make(pty.port, open_timeout=0.05)
    with pytest.raises(ConnectionError, match=r"not open within 0\.05 s"):
        await source.connect()
    with pytest.raises(ConnectionError, match="still hangs"):
        await source.connect()
    await source.disconnect()
    assert len([t for t in threading.enumerate() if t.name.startswith("outstation-open")]) == 1
    release.set()
    await until(lambda: opened and not opened[0].is_open)  # nobody waited: closed again
    await until(lambda: not source._opener._is_opening)
    monkeypatch.undo()
    await source.connect()
    await source.disconnect()


async def test_cancelling_a_stuck_open_returns_at_once(pty, monkeypatch):
    release = threading.Event()
    monkeypatch.setattr(port_module, "open_device", lambda _: release.wait() and port_module.Port())
    connecting = asyncio.create_task(make(pty.port).connect())
    await asyncio.sleep(0.01)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(1):
            await connecting
    release.set()


async def test_a_port_that_does_not_close_is_reported(pty, monkeypatch):
    release = threading.Event()
    real = port_module.Port.close
    monkeypatch.setattr(port_module.Port, "close", lambda self: release.wait(20) and real(self))
    monkeypatch.setattr(link_module, "CLOSE_TIMEOUT_S", 0.05)
    source = make(pty.port)
    await source.connect()
    with pytest.raises(ConnectionError, match=r"not closed within 0\.05 s"):
        await source.disconnect()
    with pytest.raises(ConnectionError, match="not closed"):  # and is not opened a second time
        await source.connect()
    release.set()
    monkeypatch.setattr(link_module, "CLOSE_TIMEOUT_S", 5)
    await source.disconnect()


async def test_opening_on_the_loop_would_be_noticed(pty):
    # What guards the other tests must itself be awake.
    with pytest.raises(BlockingError):
        diagnosis.holders("/dev/null")


async def test_two_readers_of_one_port_are_refused(pty):
    async with connected(pty.port):
        with pytest.raises(ConnectionError, match="another program holds it"):
            await make(pty.port).connect()
    async with connected(pty.port, exclusive=False), connected(pty.port, exclusive=False):
        pass


async def test_a_missing_port_names_what_is_there(tmp_path):
    with pytest.raises(ConnectionError, match=r"no-such: no such port: is it plugged in\? There"):
        await make(str(tmp_path / "no-such")).connect()


@pytest.mark.parametrize("path", ["/dev/null", "/tmp"])
async def test_what_is_no_serial_port_is_called_so(path):
    with pytest.raises(ConnectionError, match="not a serial port"):
        await make(path).connect()


async def test_a_port_that_takes_its_settings_only_once_is_reported_and_closed(pty):
    """A pseudo-terminal takes a parity at the first setting, and refuses every one after that."""
    before = descriptor_count()
    with pytest.raises(ConnectionError, match="cannot be set to 115200 baud, 8 bits, parity even"):
        await make(pty.port, parity="even").connect()
    assert descriptor_count() == before


async def test_a_regular_file_is_no_serial_port(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConnectionError, match="not a serial port"):
        await make(str(tmp_path / "file")).connect()


async def test_a_server_that_refuses_is_reported():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        number = listener.getsockname()[1]
        with pytest.raises(ConnectionError, match=f"socket://127.0.0.1:{number}"):
            await make(f"socket://127.0.0.1:{number}").connect()


async def test_keepalive_is_asked_for_on_a_socket():
    async with SocketSensor() as sensor, connected(sensor.port) as source:
        link = source._link._transport.get_extra_info("socket")
        assert link.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert link.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
