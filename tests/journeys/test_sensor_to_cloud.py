"""The whole line: 21 sensors, the agent, a broker, the receiver; the agent killed three times, the broker away for a while."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from buffer import BufferDB
from tests.rigs import cloud, kill_before_puback, stored
from tests.rigs.configuration import device, mqtt_source, serial_source, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.mqtt_sensors import MqttSensor, speaking
from tests.rigs.programs import AgentProgram, Program, receiver_program, seed_of, until
from tests.rigs.pty import PtySensor
from tests.rigs.serial_sensors import SerialCounter

if TYPE_CHECKING:
    from agent.status.report import SourceStatus, StatusReport

RETRY = {"first": "1 s", "base": "500 ms", "cap": "2 s", "stable": "5 s"}
SENSORS, MQTT_HZ, SERIAL_HZ = 20, 22.5, 50.0  # 500 readings/s in all
IN_FLIGHT = 500
"""Readings that the upstream broker has acknowledged and the receiver not, when it dies; a second of them."""
DEAD_S = (0.2, 1.5)
WINDOW_S = 1.0
COMMIT_S = 0.3
"""What a commit may take on a busy machine, from the end of its window on."""


@dataclass(frozen=True)
class Pace:
    """How long everything takes."""

    outage_begins_s: float
    outage_s: float
    lives_s: tuple[tuple[float, float], ...]
    """Between which ages the agent is killed, life by life; nothing disturbs its last."""
    last_life_s: float


BRISK = Pace(3.0, 7.0, ((1.5, 3.0), (2.0, 4.0), (2.0, 4.0)), 3.0)
LONG = Pace(8.0, 20.0, ((2.0, 6.0), (4.0, 9.0), (5.0, 9.0)), 8.0)


@dataclass
class Gap:
    """A time in which a serial line may be lost (wall clock)."""

    killed_at: float
    listening_at: float = float("inf")
    """When the next life had opened the port."""

    def excuses(self, written_at: float) -> bool:
        return self.killed_at - WINDOW_S - COMMIT_S <= written_at <= self.listening_at


@dataclass
class Journey:
    """Everything that takes part."""

    folder: Path
    rng: random.Random
    agent: AgentProgram
    receiver: Program
    upstream: Mosquitto
    serial: SerialCounter
    sensors: list[MqttSensor]
    pace: Pace
    gaps: list[Gap] = field(default_factory=list)
    redelivered: int = 0

    @property
    def note(self) -> Path:
        return self.folder / "between-commit-and-puback"

    async def live(self) -> None:
        """Three lives that end by SIGKILL, one of them between a commit and its PUBACK; then one in peace."""
        unacknowledged = self.rng.randrange(len(self.pace.lives_s))
        for life, (youngest_s, oldest_s) in enumerate(self.pace.lives_s):
            if life == unacknowledged:
                await self.live_until_puback(self.rng.randrange(300, 3000))
            else:
                self.agent.start()
                await self.note_listening()
                if life == unacknowledged + 1:
                    await self.see_redelivery()
                await asyncio.sleep(self.rng.uniform(youngest_s, oldest_s))
                self.agent.kill()
                self.gaps.append(Gap(self.agent.killed[-1][0]))
            await asyncio.sleep(self.rng.uniform(*DEAD_S))
        self.agent.start()
        await self.note_listening()
        if unacknowledged == len(self.pace.lives_s) - 1:
            await self.see_redelivery()
        await asyncio.sleep(self.pace.last_life_s)

    async def live_until_puback(self, acknowledged: int) -> None:
        """A life in which the reading after so many acknowledged ones is committed, and its PUBACK never sent."""
        self.agent.start(
            script=Path(kill_before_puback.__file__), script_arguments=(str(acknowledged), self.note)
        )
        await self.note_listening()
        assert await self.agent.ended(30) == -signal.SIGKILL
        self.gaps.append(Gap(self.note.stat().st_mtime))
        committed = await asyncio.to_thread(self.committed_packets)
        packet_id, topic, _ = self.note.read_bytes().split(b" ", 2)
        assert (int(packet_id), topic.decode()) in committed, "it died before the commit"

    def committed_packets(self) -> set[tuple[int, str]]:
        """Packet ids and topics of what is on the disk now."""
        copy = self.folder / "copy"
        shutil.copytree(self.agent.buffer, copy, ignore=shutil.ignore_patterns("*.sock"))
        with BufferDB(copy) as buffer:
            return {
                (document["origin"][1], document["tags"]["topic"])
                for document in buffer.table("readings")
                if "origin" in document
            }

    async def note_listening(self) -> None:
        """Wait until the agent has its serial port, which ends a gap; it may die before."""
        while self.agent.running:
            report = await self.agent.report()
            if report is not None and (boiler := source(report, "boiler")).state == "connected":
                assert boiler.since is not None
                for gap in self.gaps:  # more than one, when a life was over before it had the port
                    gap.listening_at = min(gap.listening_at, boiler.since.timestamp())
                return
            await asyncio.sleep(0.02)

    async def see_redelivery(self) -> None:
        """What was committed and not acknowledged comes again and is recognised."""
        report = await self.agent.until(lambda r: source(r, "hall").second_deliveries, "a redelivery")
        self.redelivered = source(report, "hall").second_deliveries

    async def lose_upstream(self) -> None:
        """The upstream broker loses power, with all that it holds in memory and has acknowledged to the agent.

        The receiver hangs shortly before, so that it does hold something; what the receiver had in its socket
        it commits afterwards, with nobody to acknowledge it to, so that it comes again.
        """
        await asyncio.sleep(self.pace.outage_begins_s)
        self.receiver.signal(signal.SIGSTOP)
        await self.agent_has_in_flight(IN_FLIGHT)
        self.upstream.kill()
        self.receiver.signal(signal.SIGCONT)
        await asyncio.sleep(self.pace.outage_s)
        self.upstream.start()

    async def agent_has_in_flight(self, readings: int) -> None:
        """Wait until so many readings were sent and not acknowledged by the receiver."""
        async with asyncio.timeout(30):
            while True:
                report = await self.agent.report()
                if report is not None and report.upstreams[0].in_flight >= readings:
                    return
                await asyncio.sleep(0.05)


def source(report: StatusReport, source_id: str) -> SourceStatus:
    return next(source for source in report.sources if source.source_id == source_id)


@pytest.fixture(
    params=[pytest.param(BRISK, id="brisk"), pytest.param(LONG, id="long", marks=pytest.mark.slow)]
)
async def journey(request: pytest.FixtureRequest, tmp_path: Path):
    rng = random.Random(seed_of("test_sensor_to_cloud"))
    async with AsyncExitStack() as stack:
        source_broker = stack.enter_context(Mosquitto(BrokerSettings(persistence=True)))
        cloud_broker = stack.enter_context(Mosquitto())
        port = await stack.enter_async_context(PtySensor(tmp_path))
        config = device(
            serial_source(port.port),
            mqtt_source(source_broker.url),
            upstream(cloud_broker.url, retry=RETRY, linger="500 ms", ack_timeout="5 s"),
        )
        agent = stack.enter_context(AgentProgram(tmp_path, config))
        receiver = stack.enter_context(receiver_program(tmp_path, cloud_broker.url))
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        sensors = [MqttSensor(f"sensor-{place}", source_broker.port, MQTT_HZ) for place in range(SENSORS)]
        serial = SerialCounter(port, SERIAL_HZ)
        yield Journey(tmp_path, rng, agent, receiver, cloud_broker, serial, sensors, request.param)


@pytest.mark.timeout(180)
async def test_each_acknowledged_reading_arrives_once_and_in_order(journey: Journey):
    began = time.monotonic()
    await subscribe_first(journey)
    async with asyncio.TaskGroup() as group, speaking(journey.sensors):
        counting = group.create_task(journey.serial.speak())
        outage = group.create_task(journey.lose_upstream())
        await journey.live()
        await outage
        counting.cancel()
    acknowledged = sum(len(sensor.acknowledged) for sensor in journey.sensors)
    spoken_s = time.monotonic() - began
    await drain(journey, acknowledged)
    status, stopping_s = await journey.agent.stop()
    assert status == 0
    assert (await journey.receiver.stop())[0] == 0
    assert "Traceback" not in journey.agent.log + journey.receiver.log
    arrived = cloud.rows(journey.folder / "cloud.sqlite")
    check_arrived(journey, arrived)
    lost_lines = check_serial_gaps(journey, arrived)
    tell(
        f"{acknowledged} acknowledged over MQTT, {len(journey.serial.written_at)} serial lines of which"
        f" {lost_lines} fell into gaps; {len(arrived)} arrived; {journey.redelivered} redelivered after the death"
        f" before PUBACK; sensors spoke {spoken_s:.1f} s, drained after {time.monotonic() - began - spoken_s:.1f} s,"
        f" stopped in {stopping_s:.2f} s"
    )


async def subscribe_first(journey: Journey) -> None:
    """Let the source broker know the agent's session: what comes before is for nobody, though acknowledged."""
    journey.agent.start()
    await journey.agent.until(lambda report: source(report, "hall").state == "connected", "the subscription")
    assert (await journey.agent.stop())[0] == 0


async def drain(journey: Journey, acknowledged: int) -> None:
    """Wait until everything that was acknowledged has arrived, and nothing is left."""

    def delivered(report: StatusReport) -> bool:
        return not report.upstreams[0].backlog and not report.upstreams[0].in_flight

    database = journey.folder / "cloud.sqlite"
    await until(lambda: cloud.count(database) >= acknowledged, "the backlog drains", 60)
    await asyncio.sleep(WINDOW_S + COMMIT_S)
    await journey.agent.until(delivered, "everything is delivered")


def check_arrived(journey: Journey, arrived: list[cloud.Row]) -> None:
    keys = Counter((row.device_id, row.store_id, row.seq) for row in arrived)
    assert max(keys.values()) == 1
    assert len({row.store_id for row in arrived}) == 1
    assert {row.seq for row in arrived} == set(stored.documents(journey.agent.buffer)), "kept is delivered"
    assert not cloud.disordered(arrived)
    copies = Counter((row.sensor, row.document["values"]["n"]) for row in arrived)
    doubled = {key for key, count in copies.items() if count > 1}
    assert not doubled, [
        (row.seq, row.document) for row in arrived if (row.sensor, row.document["values"]["n"]) in doubled
    ][:20]
    counters = cloud.counters(arrived)
    assert all(counts == sorted(counts) for counts in counters.values()), "disordered by content"
    for sensor in journey.sensors:
        assert sensor.acknowledged == set(range(sensor.published))
        assert counters[sensor.name] == list(range(sensor.published)), sensor.name


def check_serial_gaps(journey: Journey, arrived: list[cloud.Row]) -> int:
    """Each line that is missing was written while the agent was dead, or in its last commit window."""
    written_at = journey.serial.written_at
    kept = cloud.counters(arrived)["boiler"]
    missing = [number for number in range(kept[0], len(written_at)) if number not in set(kept)]
    unexcused = [n for n in missing if not any(gap.excuses(written_at[n]) for gap in journey.gaps)]
    assert not unexcused, (unexcused, journey.gaps)
    for gap in journey.gaps:
        others = [other for other in journey.gaps if other is not gap]
        own = [written_at[n] for n in missing if not any(other.excuses(written_at[n]) for other in others)]
        lost_s = max((gap.killed_at - at for at in own if gap.excuses(at)), default=0.0)
        dead_s = gap.listening_at - gap.killed_at
        tell(
            f"a kill cost {max(0, lost_s):.3f} s before it, and {dead_s:.2f} s until the port was open again"
        )
    return len(missing)


def tell(line: str) -> None:
    print(line)  # noqa: T201 (figures, shown by pytest -s and when the test fails)
