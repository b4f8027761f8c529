"""Secrets are shown nowhere, whatever the other end repeats: servers that quote what they were sent, in every way there is."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import re
import traceback
from base64 import b64encode
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

from agent.spine.spine import open_spine
from agent.sync import registry
from agent.sync.acknowledgement import ack_topic, digest
from agent.sync.examination import examine
from agent.sync.upstream import Rejected, UpstreamError
from collectors.clock import SystemClock
from tests.rigs.no_timing import AsMeasured
from tests.rigs.scripted_broker import publish_5, read_packet, scripted_broker
from tests.sync.memory_buffer import MemoryConsumer, MemoryDeadLetters
from tests.sync.test_upstream_contract import pack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.sync.config import UpstreamOptions

DEVICE = "greenhouse-3"
CANARY = 'c4nary"Tok en/=%é'
"""White space, quotes, what a URL quotes, and what is no ASCII."""
PLAIN = "c4naryT0ken5esame"


def forms(secret: str) -> list[str]:
    once = quote(secret, safe="")
    return [
        *(
            secret,
            once,
            quote(secret),
            json.dumps(secret)[1:-1],
            repr(secret)[1:-1],
            repr(secret.encode())[2:-1],
        ),
        *(b64encode(text.encode()).decode().rstrip("=") for text in (secret, f"me:{secret}")),
        secret[:9],
    ]


def assert_hidden(said: str, secret: str) -> None:
    assert said
    shown = [form for form in forms(secret) if form.casefold() in said.casefold()]
    assert not shown, said


def everything(error: BaseException) -> str:
    """What could be printed of an error."""
    return f"{error!r} {error} {''.join(traceback.format_exception(error))}"


def options_of(driver: str, folder: Path, secret: str, **written: Any) -> UpstreamOptions:
    """Options in which `SECRET` stands for where it is."""
    (folder / "secret").write_text(secret)
    place = {"file": str(folder / "secret")}
    chosen = {key: place if value == "SECRET" else value for key, value in written.items()}
    return registry.load_options_class(driver).model_validate(chosen)


async def told(
    options: UpstreamOptions, caplog: pytest.LogCaptureFixture, *, doctor: bool = True
) -> tuple[str, UpstreamError | None]:
    """All that an upstream, the doctor and the log say of one attempt; and what it was."""
    caplog.set_level(logging.DEBUG)
    logging.getLogger("asyncio").setLevel(logging.DEBUG)
    caplog.clear()
    upstream = registry.create_upstream(options, DEVICE, SystemClock())
    failed: UpstreamError | None = None
    said = f"{upstream.name} {upstream!r} {options!r} "
    reading: asyncio.Task[None] | None = None
    try:
        await upstream.connect()
        reading = asyncio.create_task(upstream.lost())
        await upstream.send(pack())
    except UpstreamError as error:
        failed = error
        said += everything(error)
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.wait([reading])
        await upstream.disconnect()
    findings = await examine(registry_entry(options)) if doctor else []
    said += " ".join(map(repr, findings)) + caplog.text
    said += " ".join(caplog.handler.format(record) for record in caplog.records)
    return said, failed


def registry_entry(options: UpstreamOptions) -> Any:
    """As the configuration holds it."""

    class Entry:
        name = "cloud"

    entry: Any = Entry()
    entry.options = options
    return entry


# HTTP


def answer(status: str, body: bytes = b"", *headers: bytes) -> bytes:
    lines = [f"HTTP/1.1 {status}".encode(), b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def one_line(request: bytes) -> bytes:
    return b" ".join(request.split())


ANSWERS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "the whole request": lambda request, _: answer("400 Bad Request", request),
    "the secret alone": lambda _, secret: answer("401 Unauthorized", b"unknown: " + secret),
    "cut in the middle": lambda _, secret: answer("400 Bad Request", b"." * 390 + secret + b"." * 90),
    "as JSON": lambda _, secret: answer("429 Too Many Requests", json.dumps(secret.decode()).encode()),
    "in lines": lambda _, secret: answer("422 X", b"a\r\n" + secret.replace(b" ", b"\r\n") + b"\r\nb"),
    "elsewhere": lambda request, _: answer("302 Found", b"", b"Location: " + request.split()[1]),
    "elsewhere, with it": lambda _, secret: answer(
        "307 Y", b"", b"Location: /?token=" + quote(secret).encode()
    ),
    "as the phrase": lambda _, secret: answer("503 " + secret.decode("latin-1")),
    "no status": lambda request, _: b"HTTP/1.1 " + one_line(request) + b"\r\n\r\n",
    "no HTTP": lambda request, _: request,
    "no header": lambda request, _: b"HTTP/1.1 200 OK\r\n" + one_line(request) + b"\r\n\r\n",
    "no length": lambda _, secret: b"HTTP/1.1 200 OK\r\nContent-Length: " + secret + b"\r\n\r\n",
    "no chunks": lambda request, _: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + one_line(request) + b"\r\n"
    ),
    "as a cookie": lambda request, secret: answer(
        "500 Z", b"", b"Set-Cookie: " + secret + b"{}=1", b"Set-Cookie: a=" + one_line(request)
    ),
}
HTTP_CREDENTIALS: dict[str, dict[str, Any]] = {
    "bearer": {"token": "SECRET"},
    "basic": {"username": "me", "password": "SECRET"},
    "influxdb": {"preset": "influxdb", "token": "SECRET", "org": "o", "bucket": "b"},
    "thingsboard": {"preset": "thingsboard", "token": "SECRET"},
}


async def parrot(says: Callable[[bytes, bytes], bytes], secret: str) -> asyncio.Server:
    """Answers each request with what is made of it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"(?i)content-length: (\d+)", request)
            await reader.readexactly(int(length[1]) if length else 0)
            writer.write(says(request.strip(), secret.encode()))
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # who only knocks
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize("credentials", HTTP_CREDENTIALS)
@pytest.mark.parametrize("secret", [CANARY, PLAIN])
async def test_http_servers_that_repeat_a_secret(
    credentials: str, secret: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    if secret == CANARY and credentials in {"bearer", "influxdb"}:
        secret = CANARY.replace("é", "e")  # a header holds ASCII
    for name, says in ANSWERS.items():
        async with await parrot(says, secret) as server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            options = options_of("http", tmp_path, secret, url=url, **HTTP_CREDENTIALS[credentials])
            said, failed = await told(options, caplog)
        assert failed is not None, name
        assert_hidden(said, secret)


async def test_a_dead_letter_and_the_status_show_no_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    consumer, letters = MemoryConsumer(), MemoryDeadLetters()
    consumer.add_readings(1)
    async with (
        await parrot(ANSWERS["the whole request"], PLAIN) as server,
        open_spine(rng=random.Random(1)) as spine,
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        options = options_of("http", tmp_path, PLAIN, url=url, preset="thingsboard", token="SECRET", linger=0)
        sender = registry.create_sender("cloud", options, DEVICE, consumer, letters, spine, AsMeasured())
        _, task = spine.start("sync", sender.run(), layer="sync", subject="cloud")
        async with asyncio.timeout(10):
            while consumer.backlog:
                await asyncio.sleep(0.01)
        said = f"{sender.status!r} {json.dumps(letters.letters)} {caplog.text}"
        assert not task.done()
    assert len(letters.letters) == 1
    assert "400 Bad Request" in letters.letters[0]["reason"]
    assert_hidden(said, PLAIN)


# MQTT


def connack(code: int, said: str) -> bytes:
    return _packet(0x20, bytes((0, code)) + _reason(said))


def puback(packet_id: bytes, code: int, said: str) -> bytes:
    return _packet(0x40, packet_id + bytes((code,)) + _reason(said))


def _reason(said: str) -> bytes:
    text = said.encode()
    properties = b"\x1f" + len(text).to_bytes(2, "big") + text
    return _length(len(properties)) + properties


def _packet(first: int, body: bytes) -> bytes:
    return bytes((first,)) + _length(len(body)) + body


def _length(value: int) -> bytes:
    return bytes((value,)) if value < 128 else bytes((value & 0x7F | 0x80, value >> 7))


def _packet_id(body: bytes) -> bytes:
    end = 2 + int.from_bytes(body[:2], "big")
    return body[end : end + 2]


MQTT_ANSWERS: dict[str, Callable[[str], dict[str, bytes]]] = {
    "CONNACK": lambda said: {"connect": connack(0x86, said)},
    "CONNACK, cut": lambda said: {"connect": connack(0x86, "." * 190 + said)},
    "DISCONNECT": lambda said: {"publish": _packet(0xE0, b"\x98" + _reason(said))},
    "PUBACK": lambda said: {"publish": puback(b"id", 0x97, said)},
    "PUBACK, for good": lambda said: {"publish": puback(b"id", 0x99, said)},
    "no MQTT": lambda said: {"connect": said.encode() * 3},
    "no packet": lambda said: {"publish": said.encode() * 3},
}


@pytest.mark.parametrize("credentials", [{"token": "SECRET"}, {"username": "me", "password": "SECRET"}])
@pytest.mark.parametrize("secret", [CANARY, PLAIN])
async def test_brokers_that_repeat_a_secret(
    credentials: dict[str, Any], secret: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, script in MQTT_ANSWERS.items():
        answers = script(secret)

        async def serve(
            reader: asyncio.StreamReader,
            writer: asyncio.StreamWriter,
            name: str = name,
            answers: dict[str, bytes] = answers,
        ) -> None:
            while True:
                first, body = await read_packet(reader)
                if first == 0x10:
                    writer.write(answers.get("connect", connack(0, "welcome")))
                    if "connect" in answers:
                        return
                elif first >> 4 == 3:
                    writer.write(answers["publish"].replace(b"id", _packet_id(body), 1))
                    if "PUBACK" not in name:
                        return
                elif first >> 4 == 0xE:
                    return

        async with scripted_broker(serve) as port:
            options = options_of(
                *("mqtt", tmp_path, secret),
                url=f"mqtt://127.0.0.1:{port}",
                ack="broker",
                ack_timeout=1,
                **credentials,
            )
            said, failed = await told(options, caplog, doctor="connect" in answers)
        assert failed is not None, name
        assert_hidden(said, secret)


async def test_a_websocket_server_that_repeats_a_secret(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for says in ANSWERS.values():
        async with await parrot(says, PLAIN) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mqtt"
            options = options_of("mqtt", tmp_path, PLAIN, url=url, username="me", password="SECRET")
            said, failed = await told(options, caplog)
        assert failed is not None
        assert_hidden(said, PLAIN)


@pytest.mark.parametrize("said", ["a reason", "nonsense"])
async def test_a_receiver_that_repeats_a_secret(
    said: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answers = {
        "a reason": {"store": pack().store_id, "rejected": [[digest(pack().payload), f"not for {PLAIN}"]]},
        "nonsense": {"acked": PLAIN},
    }

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            first, body = await read_packet(reader)
            if first == 0x10:
                writer.write(connack(0, ""))
            elif first == 0x82:
                writer.write(_packet(0x90, body[:2] + b"\0\1"))
            elif first >> 4 == 3:
                told_back = json.dumps(answers[said]).encode()
                packet = publish_5(ack_topic(DEVICE), b"", 1)[2:] + told_back
                writer.write(puback(_packet_id(body), 0, "") + _packet(0x32, packet))

    async with scripted_broker(serve) as port:
        options = options_of(
            *("mqtt", tmp_path, PLAIN), url=f"mqtt://127.0.0.1:{port}", ack_timeout=0.3, token="SECRET"
        )
        shown, failed = await told(options, caplog, doctor=False)
    assert isinstance(failed, Rejected) is (said == "a reason")
    assert_hidden(shown, PLAIN)


# NATS

NATS_ANSWERS: dict[str, Callable[[str], dict[str, str]]] = {
    "-ERR at CONNECT": lambda said: {"CONNECT": f"-ERR 'Authorization Violation for {said}'\r\n"},
    "-ERR at PUB": lambda said: {"HPUB": f"-ERR 'who is {said}'\r\n"},
    "no NATS": lambda said: {"CONNECT": f"{said}\r\n"},
    "no INFO": lambda said: {"INFO": f'INFO {{"auth": "{said}"\r\n'},
    "an error": lambda said: {
        "ack": json.dumps({"error": {"code": 400, "err_code": 10109, "description": f"no {said}"}})
    },
    "an unknown error": lambda said: {"ack": json.dumps({"error": {"code": 400, said: 1}})},
    "no JSON": lambda said: {"ack": said},
    "no acknowledgement": lambda said: {"ack": json.dumps({said: said})},
}


@pytest.mark.parametrize("credentials", [{"token": "SECRET"}, {"username": "me", "password": "SECRET"}])
async def test_nats_servers_that_repeat_a_secret(
    credentials: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, script in NATS_ANSWERS.items():
        answers = script(PLAIN)

        async def serve(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: dict[str, str] = answers
        ) -> None:
            info = 'INFO {"server_id":"x","version":"2.15.0","headers":true,"max_payload":1048576}\r\n'
            writer.write(answers.get("INFO", info).encode())
            while True:
                line = (await reader.readuntil(b"\r\n")).decode()
                verb, *words = line.split(" ")
                verb = verb.strip()
                if verb == "HPUB":
                    await reader.readexactly(int(words[-1]) + 2)
                if verb in answers:
                    writer.write(answers[verb].encode())
                elif verb == "PING":
                    writer.write(b"PONG\r\n")
                elif verb == "HPUB" and "ack" in answers:
                    said = answers["ack"].encode()
                    writer.write(f"MSG {words[1]} 1 {len(said)}\r\n".encode() + said + b"\r\n")

        async with scripted_broker(serve) as port:
            options = options_of(
                *("nats", tmp_path, PLAIN),
                url=f"nats://127.0.0.1:{port}",
                ack="broker",
                ack_timeout=0.5,
                **credentials,
            )
            said, failed = await told(options, caplog)
        assert failed is not None, name
        assert_hidden(said, PLAIN)
