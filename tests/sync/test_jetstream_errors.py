"""What JetStream refuses a message for: nothing that it can answer costs a reading. On a real server where it can be made to."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import nats
import pytest
from nats.js.api import DiscardPolicy, StorageType, StreamConfig

from agent.sync.config import NatsUpstreamOptions
from agent.sync.jetstream_errors import refusal
from agent.sync.nats_upstream import NatsUpstream
from agent.sync.packing import Packer
from agent.sync.subjects import BATCH_FILTER, LEDGER_FILTER, STREAM, batch_subject
from agent.sync.upstream import Paused, RetryLater, TooLarge
from tests.rigs.nats import NatsServers
from tests.sync.memory_buffer import MemoryRecord, reading
from tests.sync.test_upstream_contract import pack

if TYPE_CHECKING:
    from pathlib import Path

    from nats.aio.client import Client

    from agent.sync.upstream import UpstreamError

DEVICE = "greenhouse-3"
SERVER = """
max_payload: 40000
accounts {
  room { jetstream: enabled, users: [{ user: room, password: p }] }
  tight { jetstream { max_file: 60000, max_memory: 60000 }, users: [{ user: tight, password: p }] }
  mute { jetstream: enabled, users: [{
    user: mute, password: p, permissions { publish { deny: "outstation.>" } } }] }
  deaf { jetstream: enabled, users: [{
    user: deaf, password: p, permissions { subscribe { deny: "outstation.>" } } }] }
  none { users: [{ user: none, password: p }] }
}
"""
NEW = {"discard": DiscardPolicy.NEW}


@pytest.fixture(scope="module")
def server() -> Any:
    with NatsServers(options=SERVER) as running:
        yield running


async def made_stream(client: Client, **settings: Any) -> None:
    config = StreamConfig(name=STREAM, subjects=[BATCH_FILTER, LEDGER_FILTER], **settings)
    await client.jetstream().add_stream(config)


async def outcome(
    server: NatsServers, folder: Path, user: str, *, tries: int = 9, **settings: Any
) -> UpstreamError:
    """The first error that an upstream gets from a stream of such settings; `ack` is of the upstream's options."""
    options = {
        "url": server.url,
        "username": user,
        "password": {"file": str(folder / "password")},
        "ack": settings.pop("ack", "broker"),
        "ack_timeout": "1 s",
        "message_size": "1 MB",
    }
    (folder / "password").write_text("p")
    readings = settings.pop("readings", 150)
    sealed = settings.pop("sealed", False)
    client = await nats.connect(server.url, user=user, password="p")
    upstream = NatsUpstream(NatsUpstreamOptions.model_validate(options), DEVICE)
    try:
        if user != "none":
            await made_stream(client, **settings)
        if sealed:
            info = await client.jetstream().stream_info(STREAM)
            await client.jetstream().update_stream(info.config.evolve(sealed=True))
        with pytest.raises(ConnectionError) as caught:
            await send_all(upstream, readings, tries)
        return caught.value  # type: ignore[return-value]
    finally:
        await upstream.disconnect()
        if user != "none":
            await client.jetstream().delete_stream(STREAM)
        await client.close()


async def send_all(upstream: NatsUpstream, readings: int, packs: int) -> None:
    await upstream.connect()
    packer = Packer(1 << 20, gzip=False)
    for first in range(1, packs * readings + 1, readings):
        records = [MemoryRecord(n, reading("soil", n)) for n in range(first, first + readings)]
        await upstream.send(packer.pack(DEVICE, "5a" * 16, records))


@pytest.mark.parametrize(
    ("user", "settings", "kind", "says"),
    [
        ("room", {**NEW, "max_bytes": 40_000}, RetryLater, "maximum bytes exceeded.*no room"),
        ("room", {**NEW, "max_msgs": 2}, RetryLater, "maximum messages exceeded.*no room"),
        (
            "room",
            {**NEW, "max_msgs_per_subject": 2, "discard_new_per_subject": True},
            RetryLater,
            "per subject exceeded.*no room",
        ),
        ("tight", {}, RetryLater, "resource limits exceeded.*no room"),
        ("tight", {"storage": StorageType.MEMORY}, RetryLater, "resource limits exceeded.*no room"),
        ("room", {"max_msg_size": 1000}, TooLarge, "exceeds maximum"),
        ("room", {"readings": 2000}, TooLarge, "maximum payload"),
        ("room", {"sealed": True}, Paused, "sealed"),
        ("room", {"allow_msg_counter": True}, Paused, "is this stream one for readings"),
        ("mute", {}, Paused, "(?i)permissions violation for publish"),
        ("deaf", {"ack": "receiver"}, Paused, "(?i)permissions violation for subscription"),
        ("none", {}, RetryLater, "no stream takes"),
    ],
    ids=lambda value: str(value) if isinstance(value, (str, dict)) else None,
)
async def test_a_real_server_refuses(
    server: NatsServers,
    tmp_path: Path,
    user: str,
    settings: dict[str, Any],
    kind: type[UpstreamError],
    says: str,
) -> None:
    error = await outcome(server, tmp_path, user, **settings)
    assert type(error) is kind, error
    assert re.search(says, str(error)), error


async def test_what_answers_and_is_no_stream_acknowledges_nothing(
    server: NatsServers, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text("p")
    client = await nats.connect(server.url, user="none", password="p")
    upstream = NatsUpstream(
        NatsUpstreamOptions.model_validate(
            {
                "url": server.url,
                "username": "none",
                "password": {"file": str(tmp_path / "password")},
                "ack": "broker",
            }
        ),
        DEVICE,
    )
    said = [
        b"",
        b"+ACK",
        b"{}",
        b"[]",
        b"null",
        b"7",
        b'{"stream":"x"}',
        b'{"error":7}',
        b'{"error":{"hm":1}}',
    ]

    async def answer(message: Any) -> None:
        await message.respond(said.pop(0))

    try:
        await client.subscribe(batch_subject(DEVICE), cb=answer)
        await client.flush()
        await upstream.connect()
        while said:
            with pytest.raises(RetryLater, match="is not JetStream"):
                await upstream.send(pack())
    finally:
        await upstream.disconnect()
        await client.close()


@pytest.mark.parametrize(
    ("status", "err_code", "description", "kind"),
    [
        (400, 10002, "resource limits exceeded for account", RetryLater),
        (500, 10047, "insufficient storage resources available", RetryLater),
        (500, 10028, "insufficient memory resources available", RetryLater),
        (503, 10023, "insufficient resources", RetryLater),
        (503, 10077, "write /data: no space left on device", RetryLater),
        (503, 10077, "message too large", TooLarge),
        (400, 10054, "message size exceeds maximum allowed", TooLarge),
        (400, 10071, "wrong last sequence: 7", RetryLater),
        (400, 10164, "wrong last sequence", RetryLater),
        (503, 10063, "expected stream sequence does not match", RetryLater),
        (409, 10158, "duplicate message id is in process", RetryLater),
        (429, 10167, "too many requests", RetryLater),
        (500, 10118, "stream is offline", RetryLater),
        (503, 10008, "JetStream system temporarily unavailable", RetryLater),
        (500, 10009, "JetStream cluster can not handle request", RetryLater),
        (400, 10060, "expected stream does not match", Paused),
        (400, 10097, "header size exceeds maximum allowed of 64k", Paused),
        (400, 10109, "invalid operation on sealed stream", Paused),
        (403, None, None, Paused),
        (400, 19999, "an error of a later version", Paused),
        (None, None, None, RetryLater),
    ],
)
def test_what_each_error_means(
    status: int | None, err_code: int | None, description: str | None, kind: type[UpstreamError]
) -> None:
    error = refusal("nats://x", status, err_code, description)
    assert type(error) is kind
    assert (description or "does not say why") in str(error)
    assert str(error).startswith("nats://x: ")
