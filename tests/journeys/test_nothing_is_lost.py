"""The promise as a whole: a backlog drains through a storm to a real database, and every reading is there once, in its lane's order.

All parts are real: the agent, the broker, the receiver and PostgreSQL, each a process of its own, with a misbehaving proxy on each
link. The network is cut, stalled, half open, slow, trickling and refused; the agent, the receiver and the database are
SIGKILLed while it drains. In full: `--storm-readings 200000 --storm-faults 50`.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import psycopg
import pytest

from agent.sync.subjects import STREAM
from tests.rigs import cloud, stored
from tests.rigs.configuration import alarming_source, counting_source, device, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.nats import NatsServers
from tests.rigs.postgres import Postgres
from tests.rigs.programs import AgentProgram, Program, run_command, seed_of, until
from tests.rigs.proxy import ChaosProxy
from tests.rigs.storm import Storm

if TYPE_CHECKING:
    from pathlib import Path

    from agent.status.report import StatusReport

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

AGENT_KILLS, RECEIVER_KILLS, DATABASE_KILLS = 3, 2, 1
FILL_HZ, LIVE_HZ = 4000.0, 50.0
GUARD_HZ, ALARM_EVERY_S = 10.0, 0.5
SHARED_READINGS, SHARED_FAULTS = 12_000, 6
"""At most, of the run with two receivers."""
RETRY = {"first": "300 ms", "base": "100 ms", "cap": "1 s", "stable": "1 s"}


class World:
    """Everything on the way of a reading, and the storm over it."""

    def __init__(self, folder: Path, rng: random.Random, stack: AsyncExitStack) -> None:
        self.folder = folder
        self.rng = rng
        self._stack = stack
        self.postgres = stack.enter_context(Postgres())
        self.database = self.postgres.url(self.postgres.new_database())
        self._progress = 0
        self.agent: AgentProgram
        self.receivers: list[Program] = []

    async def proxy(self, port: int) -> ChaosProxy:
        return await self._stack.enter_async_context(ChaosProxy(("127.0.0.1", port), rng=self.rng))

    async def start_receiver(self, url: str, *options: str) -> ChaosProxy:
        """A receiver from a URL; the proxy on its way to the database."""
        proxy = await self.proxy(self.postgres.port)
        into = self.postgres.url(self.database.rpartition("/")[2], port=proxy.port) + "?sslmode=disable"
        log = self.folder / f"receiver-{len(self.receivers)}.log"
        program = Program("receive", "--from", url, "--into", into, *options, log=log)
        self.receivers.append(self._stack.enter_context(program))
        program.start()
        await until(lambda: "receiving from" in program.log, "the receiver is ready")
        return proxy

    async def start_agent(self, readings: int, url: str, **options: object) -> None:
        """An agent that has had an outage: so many readings are in its buffer, alarms among them, and more come."""
        guard = alarming_source(GUARD_HZ, every_s=ALARM_EVERY_S)
        filling = device(counting_source(FILL_HZ), guard, upstream("mqtt://127.0.0.1:1"), quota="2 GB")
        self.agent = self._stack.enter_context(AgentProgram(self.folder, filling))
        self.agent.start()
        await self.agent.until(lambda r: r.buffer.stored >= readings, "the buffer fills", 120)
        assert (await self.agent.stop())[0] == 0
        sent = upstream(url, retry=RETRY, linger="100 ms", batch_readings=200, **options)
        self.agent.config_file.write_text(device(counting_source(LIVE_HZ), guard, sent, quota="2 GB"))
        self.agent.start()
        await self.agent.until(lambda r: r.upstreams, "the agent runs")

    def progress(self) -> int:
        """How many readings were given to the database so far; the last answer while it does not answer."""
        try:
            with psycopg.connect(self.database, connect_timeout=2) as connection:
                row = connection.execute("SELECT last_value FROM outstation.readings_arrival_seq").fetchone()
        except psycopg.OperationalError:
            return self._progress
        assert row is not None
        self._progress = int(row[0])
        return self._progress

    # What else happens

    async def agent_dies(self) -> None:
        self.agent.kill()
        await asyncio.sleep(self.rng.uniform(0, 1))
        self.agent.start()

    async def receiver_dies(self) -> None:
        receiver = self.rng.choice(self.receivers)
        receiver.kill()
        await asyncio.sleep(self.rng.uniform(0, 1))
        receiver.start()

    async def database_dies(self) -> None:
        self.postgres.kill()
        await asyncio.sleep(self.rng.uniform(0.5, 3))
        await asyncio.to_thread(self.postgres.start)

    # The verdict

    async def drained(self) -> dict[int, dict[str, object]]:
        """Let all arrive, and end; what the device had, by number."""
        await self.agent.until(lambda r: r.upstreams[0].backlog < 2 * LIVE_HZ, "the backlog drains", 120)
        for _ in range(3):
            assert (await self.agent.stop())[0] == 0
            on_device = stored.documents(self.agent.buffer)
            if cloud.count(self.database) >= len(on_device):
                break
            self.agent.start()  # it was stopped in one of its retries
            await self.agent.until(lambda r: r.upstreams[0].backlog < 2 * LIVE_HZ, "the rest arrives", 60)
        return on_device

    def judge(self, on_device: dict[int, dict[str, object]], *, ordered: bool = True) -> None:
        """Lost 0, doubled 0, out of order 0: in the alarm lane, the live one and the backlog's, unless several receivers share."""
        arrived = cloud.rows(self.database)
        lost = on_device.keys() - {row.seq for row in arrived}
        assert not lost, f"lost {len(lost)}: {sorted(lost)[:10]}"
        assert (
            len(arrived) == len({(row.device_id, row.store_id, row.seq) for row in arrived}) == len(on_device)
        )
        alarms = sum(row.document.get("lane") == "alarm" for row in arrived)
        assert alarms > 10, alarms
        disordered = cloud.disordered(arrived) if ordered else []
        assert not disordered, disordered[:5]
        order = ", out of order 0" if ordered else ""
        print(f"{len(arrived)} readings, {alarms} of them alarms: lost 0, doubled 0{order}")  # noqa: T201 (for -s)
        for row in arrived:
            assert row.document["values"] == on_device[row.seq]["values"]
        gaps = run_command("gaps", self.database)
        assert gaps.returncode == 0, gaps.stdout


async def rage(world: World, storm: Storm, goal: int) -> None:
    """The storm with the kills; most of it must fall into the draining."""
    storm.also(world.agent_dies, AGENT_KILLS)
    storm.also(world.receiver_dies, RECEIVER_KILLS)
    storm.also(world.database_dies, DATABASE_KILLS)
    await storm.rage(world.progress, goal)
    print(f"{dict(storm.happened)}: {storm.while_working} while it drained")  # noqa: T201 (for -s)
    assert storm.while_working >= 0.7 * storm.happened.total()


@pytest.fixture
def size(request: pytest.FixtureRequest) -> tuple[int, int]:
    return request.config.getoption("--storm-readings"), request.config.getoption("--storm-faults")


async def test_over_mqtt(tmp_path: Path, size: tuple[int, int]):
    readings, faults = size
    rng = random.Random(seed_of("test_over_mqtt"))
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto())
        world = World(tmp_path, rng, stack)
        to_broker, from_broker = await world.proxy(broker.port), await world.proxy(broker.port)
        to_database = await world.start_receiver(f"mqtt://127.0.0.1:{from_broker.port}")
        await world.start_agent(
            readings,
            f"mqtt://127.0.0.1:{to_broker.port}",
            ack="receiver",
            ack_timeout="3 s",
            keepalive="3 s",
            in_flight=5,
        )
        storm = Storm(rng, [(to_broker,), (from_broker,), (to_database,)], faults)
        await rage(world, storm, readings)
        world.judge(await world.drained())
    shutil.rmtree(tmp_path)


async def test_over_mqtt_to_two_receivers_that_share(tmp_path: Path, size: tuple[int, int]):
    """What one of them has in hand when it is killed the other one gets, or it does itself when it is back."""
    readings, faults = min(size[0], SHARED_READINGS), min(size[1], SHARED_FAULTS)
    rng = random.Random(seed_of("test_over_mqtt_to_two_receivers"))
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto())
        world = World(tmp_path, rng, stack)
        to_broker = await world.proxy(broker.port)
        links, databases = [(to_broker,)], []
        for name in ("one", "two"):
            from_broker = await world.proxy(broker.port)
            url = f"mqtt://127.0.0.1:{from_broker.port}"
            to_database = await world.start_receiver(url, "--share", "fleet", "--client-id", name)
            links += [(from_broker,), (to_database,)]
            databases.append(to_database)
        await world.start_agent(
            readings,
            f"mqtt://127.0.0.1:{to_broker.port}",
            ack="receiver",
            ack_timeout="3 s",
            keepalive="3 s",
            in_flight=5,
        )
        await rage(world, Storm(rng, links, faults), readings)
        world.judge(await world.drained(), ordered=False)
        written = [proxy.passed["up"] for proxy in databases]
        assert min(written) > sum(written) / 10, f"one did it alone: {written}"
    shutil.rmtree(tmp_path)


async def test_over_jetstream(tmp_path: Path, size: tuple[int, int]):
    """A cluster of three, whose stream's leader is killed, too."""
    readings, faults = size
    rng = random.Random(seed_of("test_over_jetstream"))
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(NatsServers(3))
        world = World(tmp_path, rng, stack)
        ports = [node.client_port for node in cluster.nodes]
        to_cluster = tuple([await world.proxy(port) for port in ports])
        from_cluster = tuple([await world.proxy(port) for port in ports])
        to_database = await world.start_receiver(_servers(from_cluster), "--replicas", "3")
        await world.start_agent(
            readings, _servers(to_cluster), ack="receiver", ack_timeout="4 s", in_flight=5
        )

        async def node_dies() -> None:
            leader = await asyncio.to_thread(cluster.leader, STREAM)
            await asyncio.to_thread(cluster.kill, leader)
            await asyncio.sleep(rng.uniform(1, 3))
            await asyncio.to_thread(cluster.start, leader)

        storm = Storm(rng, [to_cluster, from_cluster, (to_database,)], faults)
        storm.also(node_dies)
        await rage(world, storm, readings)
        world.judge(await world.drained())
    shutil.rmtree(tmp_path)


def _servers(proxies: tuple[ChaosProxy, ...]) -> str:
    return "nats://" + ",".join(f"127.0.0.1:{proxy.port}" for proxy in proxies)


def _broker_holds(report: StatusReport) -> bool:
    cloud_status = report.upstreams[0]
    return cloud_status.state == "retrying" and "the broker has it" in (cloud_status.last_error or "")


async def test_a_broker_that_dies_with_its_store_loses_nothing(tmp_path: Path):
    """With ack = "receiver" the broker is a wire: what it held and forgot is sent again."""
    readings = 20_000
    rng = random.Random(seed_of("test_a_broker_that_dies"))
    async with AsyncExitStack() as stack:
        broker = stack.enter_context(Mosquitto(BrokerSettings(persistence=True)))
        world = World(tmp_path, rng, stack)
        await world.start_receiver(broker.url)
        pace = ["20 messages/s"]
        await world.start_agent(readings, broker.url, ack="receiver", ack_timeout="2 s", limits=pace)
        for share in (0.1, 0.4, 0.7):
            await until(lambda share=share: world.progress() > share * readings, "it drains", 60)  # type: ignore[misc]
            world.receivers[0].signal(signal.SIGSTOP)
            # What the agent sends now the broker acknowledges and holds: PUBACK, but no word of a receiver.
            await world.agent.until(_broker_holds, "the broker holds packs")
            broker.kill()
            broker.forget()
            world.receivers[0].signal(signal.SIGCONT)
            broker.start()
        world.judge(await world.drained())
    shutil.rmtree(tmp_path)
