"""`outstation record` and `outstation play`, as they are typed."""

from __future__ import annotations

import asyncio
import errno
import json
import signal
from io import BytesIO
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from agent.captures.format import CaptureReader, Piece, encode_header, encode_piece
from agent.captures.recorder import Recorder
from agent.cli import main, record
from collectors.clock import SystemClock
from tests.rigs.programs import Program, run_command, until
from tests.rigs.pty import PtySensor, SocketSensor
from tests.rigs.raw_port import RawPort

if TYPE_CHECKING:
    from pathlib import Path


def lines(capture: Path) -> list[dict]:
    return [json.loads(line) for line in capture.read_bytes().splitlines()] if capture.exists() else []


def said(capture: Path) -> bytes:
    if not lines(capture):
        return b""
    return b"".join(piece.data for piece in CaptureReader(BytesIO(capture.read_bytes())).pieces())


def recording(folder: Path, *arguments: str) -> tuple[Program, Path]:
    capture = folder / "capture.jsonl"
    return Program("record", *arguments, "-o", capture, log=folder / "record.log"), capture


async def test_what_a_port_says_is_written_with_its_timing(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        program, capture = recording(tmp_path, sensor.port, "--baudrate", "9600")
        with program:
            program.start()
            await until(lambda: lines(capture), "it records")
            await sensor.write(b'{"n": 1}\r\n')
            await until(lambda: said(capture), "it is written at once")
            await asyncio.sleep(0.3)
            await sensor.write(bytes(range(256)))
            await until(lambda: len(said(capture)) == 266, "it is written at once")
            program.signal(signal.SIGINT)
            assert await program.ended() == 0
    header, first, *rest = lines(capture)
    assert (header["capture"], header["port"], header["baudrate"]) == (1, sensor.port, 9600)
    assert said(capture) == b'{"n": 1}\r\n' + bytes(range(256))
    assert 0.29 < rest[0]["t"] - first["t"] < 5
    assert "266 bytes in" in program.log


async def test_a_source_is_recorded_by_its_settings_and_polled_as_it_is_configured(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        config = tmp_path / "outstation.toml"
        config.write_text(
            f'[[source]]\nid = "meter"\ndriver = "serial"\nport = "{sensor.port}"\nbaudrate = 19200\n'
            'poll = { request = "READ\\r\\n", interval = "100 ms" }\n'
            '[[source]]\nid = "hall"\ndriver = "simulated"\nsignals = [{ name = "n", kind = "counter" }]\n'
        )
        program, capture = recording(tmp_path, "meter", "--config", str(config))
        with program:
            program.start()
            for number in range(3):
                await until(lambda: b"READ\r\n" in sensor.read_available(), "it asks")
                await sensor.write(b"%d;\xb0\r\n" % number)
            await until(lambda: b"2;" in said(capture), "it records")
            program.signal(signal.SIGTERM)
            assert await program.ended() == 0
        assert lines(capture)[0]["baudrate"] == 19200
        assert said(capture) == b"0;\xb0\r\n1;\xb0\r\n2;\xb0\r\n"
        refused = run_command("record", "hall", "--config", config, "-o", tmp_path / "x")
    assert refused.returncode == 2
    assert "hall is no serial source (driver simulated)" in refused.stderr


async def test_a_cable_that_is_pulled_is_noted_and_recording_goes_on(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        program, capture = recording(tmp_path, sensor.port)
        with program:
            program.start()
            await until(lambda: lines(capture), "it records")
            await sensor.write(b"before")
            await until(lambda: said(capture) == b"before", "it is written at once")
            await sensor.unplug()
            await until(lambda: "connection lost" in capture.read_text(), "it is noted")
            await sensor.plug()
            await until(lambda: "connected again" in capture.read_text(), "it is noted")
            await sensor.write(b"after")
            await until(lambda: said(capture) == b"beforeafter", "it goes on")
            program.kill()
    assert said(capture) == b"beforeafter"
    assert all(one["t"] <= next_one["t"] for one, next_one in pairwise(lines(capture)[1:]))


async def test_a_serial_server_is_recorded_too(tmp_path):
    async with SocketSensor() as sensor:
        program, capture = recording(tmp_path, sensor.port, "--duration", "1 s")
        with program:
            program.start()
            await sensor.write(b"hello")
            await until(lambda: said(capture) == b"hello", "it records")
            assert await program.ended() == 0
    assert lines(capture)[0]["port"] == sensor.port
    assert "baudrate" not in lines(capture)[0]


def test_what_cannot_be_recorded_is_said_and_leaves_nothing(tmp_path, capsys):
    capture = tmp_path / "x.jsonl"
    for arguments, status, message in (
        (["/dev/not-there", "-o", capture], 1, "no such port"),
        (["/dev/not-there", "-o", capture, "--baudrate", "7"], 2, "baudrate: Input should be greater than"),
        (["/dev/not-there", "-o", capture, "--duration", "soon"], 2, "--duration soon: not understood"),
        (["/dev/not-there", "-o", capture, "--duration", "0"], 2, "--duration 0: should be a time above 0"),
        (["/dev/not-there", "-o", tmp_path / "no" / "folder"], 1, "No such file or directory"),
        (["soil", "-o", capture, "--baudrate", "9600"], 2, "--baudrate belongs to a port"),
        (["soil", "-o", capture, "--config", tmp_path / "none"], 2, "there is no file"),
    ):
        assert (main(["record", *map(str, arguments)]), message) == (status, message)
        assert message in capsys.readouterr().err
        assert not capture.exists()
    capture.write_text("dear")
    assert main(["record", "/dev/not-there", "-o", str(capture)]) == 1
    assert "is there already" in capsys.readouterr().err
    assert capture.read_text() == "dear"


class FullFile(BytesIO):
    """Takes so many bytes."""

    room = 300

    def write(self, data):
        return super().write(bytes(data)[: max(0, self.room - self.tell())])


def test_the_file_that_takes_no_more_is_named(tmp_path, monkeypatch, capsys):
    async def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(record, "_until_told", full)
    assert main(["record", "/dev/not-there", "-o", str(tmp_path / "c.jsonl")]) == 1
    assert f"{tmp_path / 'c.jsonl'}: No space left on device: what came until then" in capsys.readouterr().err


async def test_a_full_disk_ends_the_recording_with_whole_lines(tmp_path):
    from agent.composition import port_options, recording_source

    async with PtySensor(tmp_path) as sensor:
        clock = SystemClock()
        source = recording_source(port_options(sensor.port, {}), clock)
        file = FullFile()
        recorder = Recorder(source, file, {"port": "p"}, clock, lambda _: None)
        async with asyncio.TaskGroup() as group:
            group.create_task(keep_talking(sensor, recorder))
            with pytest.raises(OSError, match="No space left"):
                await recorder.run()
            recorder.pieces = -1
    assert file.getvalue().endswith(b"\n")
    # What is written at once may arrive in pieces.
    kept = b"".join(piece.data for piece in CaptureReader(BytesIO(file.getvalue())).pieces())
    assert kept == b"x" * len(kept)
    assert 0 < len(kept) < recorder.received_bytes


async def keep_talking(sensor, recorder):
    await until(lambda: recorder.elapsed_s, "it records")
    while recorder.pieces >= 0:
        await sensor.write(b"x" * 50)
        seen = recorder.pieces
        while recorder.pieces == seen:
            await asyncio.sleep(0.01)


def write_capture(folder: Path, pieces: list[Piece], tail: bytes = b"") -> Path:
    capture = folder / "played.jsonl"
    capture.write_bytes(encode_header({"port": "/dev/ttyUSB7"}) + b"".join(map(encode_piece, pieces)) + tail)
    return capture


@pytest.mark.parametrize(("speed", "least_s", "most_s"), [("2", 0.45, 3), ("max", 0, 0.4)])
async def test_a_capture_is_played_in_its_time_or_faster(tmp_path, speed, least_s, most_s):
    capture = write_capture(
        tmp_path, [Piece(0.0, b"first\n"), Piece(0.5, b"\x00\xff\n"), Piece(1.0, b"last\n")]
    )
    link = tmp_path / "port"
    program = Program("play", capture, "--speed", speed, "--link", link, log=tmp_path / "play.log")
    with program:
        program.start()
        await until(link.exists, "the port is there")
        with RawPort(str(link)) as port:
            assert await port.until(b"\n") == b"first"
            began = asyncio.get_running_loop().time()
            assert await port.until(b"\n") == b"\x00\xff"
            assert await port.until(b"\n") == b"last"
            took_s = asyncio.get_running_loop().time() - began
            assert await program.ended() == 0
    assert least_s <= took_s < most_s
    assert not link.is_symlink()
    assert program.log.splitlines()[0] == str(link)
    assert program.log.endswith("14 bytes played\n")


async def test_more_than_a_terminal_holds_is_played_without_loss(tmp_path):
    data = [bytes([65 + number % 26]) * 999 + b"\n" for number in range(300)]
    capture = write_capture(tmp_path, [Piece(0.0, piece) for piece in data], tail=b'{"t": 1, "rx": "cut')
    link = tmp_path / "port"
    program = Program("play", capture, "--speed", "max", "--link", link, log=tmp_path / "play.log")
    with program:
        program.start()
        await until(link.exists, "the port is there")
        with RawPort(str(link)) as port:
            for piece in data:
                assert await port.until(b"\n") == piece[:-1]
        assert await program.ended() == 0
    assert "1 lines of" in program.log


async def test_a_player_that_is_interrupted_takes_its_port_away(tmp_path):
    capture = write_capture(tmp_path, [Piece(100.0, b"late\n")])
    link = tmp_path / "port"
    for number, status in ((signal.SIGTERM, 130), (signal.SIGINT, 130)):
        program = Program("play", capture, "--link", link, log=tmp_path / "play.log")
        with program:
            program.start()
            await until(link.exists, "the port is there")
            await until(lambda: "as soon as" in program.log, "it waits")  # noqa: B023 (called before the next turn)
            program.signal(number)
            assert await program.ended() == status
        assert not link.is_symlink()
        program.log_file.unlink()


@pytest.fixture
def sigterm():
    """What a command makes of it ends with the command's process, which is ours here."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.mark.usefixtures("sigterm")
def test_what_cannot_be_played_is_said(tmp_path, capsys):
    capture = write_capture(tmp_path, [])
    (tmp_path / "other").write_text("{}\n")
    (tmp_path / "taken").write_text("dear")
    for arguments, status, message in (
        ([tmp_path / "none"], 1, "No such file"),
        ([tmp_path / "other"], 1, "not a capture"),
        ([capture, "--speed", "0"], 2, "should be a number above 0, or max"),
        ([capture, "--speed", "quick"], 2, "should be a number above 0, or max"),
        ([capture, "--link", tmp_path / "taken"], 1, "File exists"),
    ):
        assert (main(["play", *map(str, arguments)]), message) == (status, message)
        assert message in capsys.readouterr().err
    assert (tmp_path / "taken").read_text() == "dear"
