"""The NATS upstream: what a message looks like, whose word counts, TLS, and a cluster that loses a node."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import nats
import pytest
from pydantic_core import to_json

from agent.spine.spine import open_spine
from agent.sync import registry
from agent.sync.acknowledgement import digest
from agent.sync.config import NatsUpstreamOptions
from agent.sync.nats_upstream import NatsUpstream
from agent.sync.subjects import BATCH_FILTER, LEDGER_FILTER, STREAM, ack_subject, batch_subject
from agent.sync.upstream import Paused, Rejected, RetryLater, TooLarge
from tests.rigs.certificates import make_certificates
from tests.rigs.nats import NatsServers
from tests.rigs.no_timing import AsMeasured
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters
from tests.sync.test_upstream_contract import pack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from nats.aio.client import Client


DEVICE, STORE = "greenhouse-3", "5a" * 16


@asynccontextmanager
async def stream(server: NatsServers, replicas: int = 1, **settings: Any) -> AsyncIterator[Client]:
    client = await nats.connect([f"nats://127.0.0.1:{node.client_port}" for node in server.nodes])
    try:
        await client.jetstream().add_stream(
            name=STREAM, subjects=[BATCH_FILTER, LEDGER_FILTER], num_replicas=replicas, **settings
        )
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def upstream(url: str, **options: Any) -> AsyncIterator[NatsUpstream]:
    made = NatsUpstream(NatsUpstreamOptions.model_validate({"url": url, **options}), DEVICE)
    await made.connect()
    try:
        yield made
    finally:
        await made.disconnect()


async def messages(client: Client) -> list[Any]:
    js = client.jetstream()
    state = (await js.stream_info(STREAM)).state
    return (
        [await js.get_msg(STREAM, seq) for seq in range(state.first_seq, state.last_seq + 1)]
        if state.messages
        else []
    )


async def test_what_a_message_looks_like_and_that_a_resend_is_kept_once() -> None:
    with NatsServers() as server:
        async with stream(server) as client, upstream(server.url, ack="broker") as u:
            for _ in range(2):
                await u.send(pack())
                await u.disconnect()
                await u.connect()
            (message,) = await messages(client)
    assert message.subject == batch_subject(DEVICE)
    assert message.data == pack().payload
    assert message.headers == {
        "Nats-Msg-Id": f"{DEVICE}/{STORE}/1-20-20/{pack().digest}",
        "Content-Type": "application/senml+json",
        "Content-Encoding": "gzip",
    }


async def test_the_receivers_word_counts_and_what_it_did_not_hear_of_comes_again_as_a_message_of_its_own() -> (
    None
):
    with NatsServers() as server:
        async with stream(server) as client, upstream(server.url, ack_timeout="300 ms") as u:
            with pytest.raises(RetryLater, match="no receiver acknowledged"):
                await u.send(pack())
            sending = asyncio.create_task(u.send(pack()))
            for said in (b"garbage", to_json({"acked": [digest(b"another")]})):
                await client.publish(ack_subject(DEVICE), said)
            await client.publish(ack_subject(DEVICE), to_json({"acked": [pack().digest]}))
            await sending
            refused = asyncio.create_task(u.send(pack(21)))
            await asyncio.sleep(0.05)
            rejected = [[digest(pack(21).payload), "no"]]
            await client.publish(ack_subject(DEVICE), to_json({"rejected": rejected}))
            with pytest.raises(Rejected, match="no"):
                await refused
            kept = await messages(client)
    assert [message.data for message in kept] == [pack().payload, pack().payload, pack(21).payload]
    assert not any("Nats-Msg-Id" in message.headers for message in kept)


async def test_without_a_stream_or_within_its_limits_only() -> None:
    with NatsServers() as server:
        async with upstream(server.url, ack="broker") as u:
            with pytest.raises(RetryLater, match="no stream takes"):
                await u.send(pack())
            async with stream(server, max_msg_size=100):
                with pytest.raises(TooLarge):
                    await u.send(pack())


async def test_mutual_tls_and_certificates_that_do_not_pass(tmp_path: Path) -> None:
    ours = make_certificates(tmp_path / "ours")
    other = make_certificates(tmp_path / "other")
    tls = (
        f"tls {{ cert_file: {ours.server_cert_file}, key_file: {ours.server_key_file},"
        f" ca_file: {ours.ca_file}, verify: true }}"
    )
    mine = {"cert_file": ours.client_cert_file, "key": {"file": ours.client_key_file}}
    with NatsServers(options=tls) as server:
        url = f"tls://localhost:{server.nodes[0].client_port}"
        async with upstream(url, ca_file=ours.ca_file, **mine) as u:
            with pytest.raises(RetryLater, match="no stream takes"):
                await u.send(pack())
        with pytest.raises(Paused, match="not trusted"):
            async with upstream(url, ca_file=other.ca_file, **mine):
                raise AssertionError("a stranger")
        plain = NatsUpstream(NatsUpstreamOptions(url=url.replace("tls", "nats")), DEVICE)
        with pytest.raises(Paused, match="not trusted"):  # the server asks for TLS, whatever the url says
            await plain.connect()


@pytest.mark.slow
async def test_a_cluster_loses_its_leader_while_a_backlog_drains_and_nothing_else() -> None:
    with NatsServers(3) as cluster:
        async with stream(cluster, replicas=3) as client, open_spine(rng=random.Random(1)) as spine:
            consumer = MemoryConsumer()
            consumer.add_readings(30_000)
            options = NatsUpstreamOptions.model_validate(
                {
                    "url": cluster.url,
                    "ack": "broker",
                    "ack_timeout": "2 s",
                    "batch_readings": 100,
                    "retry": {"first": 0.2, "base": 0.1, "cap": 0.5},
                }
            )
            made = registry.create_upstream(options, DEVICE, spine.clock)
            sender = registry.make_sender(
                "cloud", options, made, consumer, MemoryDeadLetters(), spine, AsMeasured()
            )
            spine.start("sync", sender.run(), layer="sync", subject="cloud")
            async with asyncio.timeout(50):
                while consumer.backlog > 20_000:
                    await asyncio.sleep(0.01)
                await asyncio.to_thread(lambda: cluster.kill(cluster.leader(STREAM)))
                while consumer.backlog:
                    await asyncio.sleep(0.05)
            kept = [message.headers["Nats-Msg-Id"].split("/")[2] for message in await messages(client)]
    bounds = [tuple(map(int, each.split("-"))) for each in kept]
    assert sorted(bounds) == [(start, start + 99, 100) for start in range(1, 30_001, 100)], (
        "each once, none missing"
    )
