"""Serial sensors of every kind behind one agent: each trouble is named and counted at its source, and costs nobody else."""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING

from drivers.framing import FRAMINGS
from tests.rigs import stored
from tests.rigs.configuration import device, serial_source
from tests.rigs.polled_sensor import PolledSensor
from tests.rigs.programs import AgentProgram, run_command
from tests.rigs.pty import PtySensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.status.report import SourceStatus, StatusReport

COBS = FRAMINGS.choose("cobs")
LAYOUT = {
    "type": "struct",
    "byteorder": "little",
    "layout": [
        {
            "prefix": "D",
            "fields": [
                {"name": "n", "type": "u32"},
                {"name": "celsius", "type": "i16", "scale": 0.1, "unit": "Cel"},
            ],
        }
    ],
}
FRAMES = 50


def frame(number: int) -> bytes:
    return COBS.encode(b"D" + struct.pack("<Ih", number, 200 + number))


def broken(number: int) -> bytes:
    whole = bytearray(frame(number))
    whole[1] ^= 0x40  # of the D, which no code byte is
    return bytes(whole)


@contextmanager
def held(port: str) -> Iterator[int]:
    """Another program holds the port."""
    code = f"import fcntl, os, time; f = os.open({port!r}, os.O_RDWR | os.O_NOCTTY); fcntl.flock(f, 2); print(1, flush=True); time.sleep(99)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            yield other.pid
        finally:
            other.send_signal(signal.SIGKILL)


async def test_a_binary_a_polled_and_a_held_sensor(tmp_path: Path):
    async with AsyncExitStack() as stack:
        ports = {}
        for name in ("binary", "polled", "held"):
            (tmp_path / name).mkdir()
            ports[name] = await stack.enter_async_context(PtySensor(tmp_path / name))
        await stack.enter_async_context(
            PolledSensor(ports["polled"], lambda _, number: b"%d,21.5\r\n" % number)
        )
        config = device(
            serial_source(ports["binary"].port, "binary", framing="cobs", codec=LAYOUT),
            serial_source(
                ports["polled"].port,
                "polled",
                codec={"type": "csv", "columns": ["n", "celsius"], "units": {"celsius": "Cel"}},
                poll={"request": "READ {number}\n", "interval": "50 ms"},
            ),
            serial_source(ports["held"].port, "held"),
        )
        agent = stack.enter_context(AgentProgram(tmp_path, config))
        with held(ports["held"].port) as pid:
            agent.start()
            report = await agent.until(lambda r: of(r, "binary").state == "connected", "the port")
            for number in range(FRAMES):
                await ports["binary"].write(broken(number) + frame(number))
            report = await agent.until(
                lambda r: (
                    of(r, "binary").frames == 2 * FRAMES - 1
                    and of(r, "polled").frames >= 10
                    and of(r, "held").failures
                ),
                "all that comes",
            )
            # The first one was no error: it might have been the rest of a frame.
            assert of(report, "binary").troubles == {"wrong_crc": FRAMES - 1}
            assert of(report, "binary").dead_letters == FRAMES - 1
            assert not of(report, "polled").troubles
            assert of(report, "held").troubles["busy"] >= 1
            assert "another program holds it: python" in (of(report, "held").last_error or "")
            assert f"(pid {pid})" in (of(report, "held").last_error or "")
            shown = run_command("status", "--json", "--config", agent.config_file)
            by_id = {source["source_id"]: source for source in json.loads(shown.stdout)["sources"]}
            assert by_id["binary"]["troubles"] == {"wrong_crc": FRAMES - 1}
            assert (
                f"since the start: wrong_crc {FRAMES - 1}"
                in run_command("status", "--config", agent.config_file).stdout
            )
        await agent.until(lambda r: of(r, "held").state == "connected", "the port is free")
        await ports["held"].write(b'{"n": 7}\n')
        await agent.until(lambda r: of(r, "held").frames, "and read")
        assert (await agent.stop())[0] == 0
    kept = list(stored.documents(agent.buffer).values())
    binary = [document for document in kept if document["source"] == "binary"]
    assert [document["values"] for document in binary] == [
        {"n": number, "celsius": (200 + number) / 10} for number in range(FRAMES)
    ]
    assert binary[0]["units"] == {"celsius": "Cel"}
    polled = [document["values"] for document in kept if document["source"] == "polled"]
    assert polled == [{"n": number + 1, "celsius": 21.5} for number in range(len(polled))]


def of(report: StatusReport, source_id: str) -> SourceStatus:
    return next(source for source in report.sources if source.source_id == source_id)
