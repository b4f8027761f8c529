"""A fleet after a blip: real devices, a real broker, and a gate before it that takes few connections a second."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.fleet import measure
from tests.rigs import cloud
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.programs import Program, receiver_program, run_command, until

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_after_a_blip_nobody_storms_the_broker(tmp_path: Path):
    (found,) = await measure(60, 4, [5.0], tmp_path)
    assert found.attempts >= 60
    assert found.fits(4), found


async def test_virtual_devices_deliver_to_a_real_receiver(tmp_path: Path):
    with Mosquitto() as broker, receiver_program(tmp_path, broker.url) as receiver:
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        arguments = ("--to", broker.url, "--devices", "5", "--rate", "20", "--ramp", "0.1", "--json")
        with Program("simulate", *arguments, log=tmp_path / "fleet.log") as fleet:
            fleet.start()
            await until(lambda: devices_in(tmp_path / "cloud.sqlite") == 5, "readings of all arrive")
            assert (await fleet.stop())[0] == 0
        last = json.loads(fleet.log.splitlines()[-1])
        assert (last["devices"], last["connected"], last["dropped"]) == (5, 5, 0)
        arrived = cloud.rows(tmp_path / "cloud.sqlite")
    assert {row.device_id for row in arrived} == {f"virtual-{n:05d}" for n in range(1, 6)}
    assert not cloud.disordered(arrived)
    for device in {row.device_id for row in arrived}:
        numbers = [row.document["values"]["n"] for row in arrived if row.device_id == device]
        assert numbers == list(range(len(numbers)))


def devices_in(database: Path) -> int:
    if not cloud.count(database):
        return 0
    ((count,),) = cloud.fetch(database, "SELECT count(DISTINCT device_id) FROM readings")
    return int(count)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "ftp://x"], "--to should be"),
        (["--to", "mqtt://127.0.0.1", "--devices", "0"], "--devices should be 1 to"),
        (["--to", "mqtt://127.0.0.1", "--rate", "0"], "--rate should be"),
        (["--to", "mqtt://127.0.0.1", "--ack", "nobody"], "ack: "),
        (["--to", "mqtt://127.0.0.1", "--time", "soon"], "soon"),
        (["--to", "mqtt://broker.example.com"], "unencrypted"),
    ],
)
def test_what_is_asked_in_vain(arguments: list[str], said: str):
    done = run_command("simulate", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
