"""Servers on loopback that keep the limits of real clouds as these do, and note what would not have happened there.

| cloud | beyond its limits |
| --- | --- |
| AWS IoT Core | a publish too many gets no PUBACK; one too large, or too many in flight, ends the connection; so does a second CONNECT within a second |
| ThingsBoard, MQTT | the connection ends without a word, as it does for what cannot be read |
| ThingsBoard, HTTP | 429; 413; 400 for what cannot be read; 401 |
| InfluxDB | 429 with Retry-After; 413; 400 for the first line that cannot be read; 401; 404 |
| generic | MQTT: PUBACK with a reason; HTTP: 429 |

Whatever reaches a limit is noted in `exceeded`, whatever is malformed in `wrong`. `weather` makes trouble that no limit is the reason of.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

from aiohttp import web

from tests.rigs.limiting_cloud import CLOUDS, Windows
from tests.rigs.scripted_broker import read_packet
from tests.sync.line_protocol_reader import points

if TYPE_CHECKING:
    import random

TOKEN = "c4nary/T0ken=5"
ORG, BUCKET = "my org", "soil & air"
QUOTA_EXCEEDED = 0x97
_SLASHES_MAX = 7


@dataclass
class CloudServer:
    """What all have: it counts, it reads, it remembers."""

    preset: str
    rng: random.Random
    trouble: float = 0.0
    """How often something goes wrong that is nobody's fault."""
    latency_s: float = 0.05
    exceeded: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    arrived: dict[Any, Any] = field(default_factory=dict)
    """Values by what tells them apart: a reading's number, or series and timestamp."""
    troubles: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self.limits = CLOUDS[self.preset]
        self._messages = Windows("messages", self.limits.messages)
        self._bytes = Windows("bytes", self.limits.bytes)
        self._points = Windows("values", self.limits.points)

    def has_trouble(self) -> bool:
        """Whether something goes wrong now; the first time it does, where anything is to go wrong."""
        now = self.rng.random() < self.trouble or (self.trouble > 0 and not self.troubles)
        self.troubles += now
        return now

    def counted(self, payload: bytes, values: int) -> bool:
        """Whether a message is within the limits of any time."""
        now_s = asyncio.get_running_loop().time()
        found = [
            self._messages.add(now_s, 1),
            self._bytes.add(now_s, len(payload)),
            self._points.add(now_s, values),
        ]
        self.exceeded += (beyond := [each for each in found if each is not None])
        return not beyond

    def too_large(self, payload: bytes) -> bool:
        if len(payload) <= self.limits.message_bytes:
            return False
        self.exceeded.append(f"a message of {len(payload)} bytes")
        return True

    def read(self, payload: bytes) -> dict[Any, Any]:
        """What a message says, by what tells it apart; raises ValueError."""
        if self.preset == "influxdb":
            return {(tuple(sorted(tags.items())), ts): fields for _, tags, fields, ts in points(payload)}
        said = json.loads(payload)
        if self.preset == "thingsboard":
            return {(each["ts"], key): value for each in said for key, value in each["values"].items()}
        found: dict[Any, Any] = {}
        for record in said:
            if "seq" in record:
                values = found[record["seq"]] = {}
            (values[record.get("metric", record["n"])],) = (
                record[label] for label in ("v", "vs", "vb") if label in record
            )
        return found

    def count_values(self, said: dict[Any, Any]) -> int:
        return len(said) if self.preset == "thingsboard" else sum(map(len, said.values()))

    def take(self, said: dict[Any, Any]) -> None:
        """Keep it: what comes again has to be the same."""
        for key, value in said.items():
            if self.arrived.setdefault(key, value) != value:
                self.wrong.append(f"{key} was {self.arrived[key]} and is {value}")


@dataclass
class MqttCloud(CloudServer):
    """A broker of one cloud; an asynchronous context manager."""

    topic: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._connects = Windows("connects", self.limits.connects)
        self._running: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._running.values():
            writer.transport.abort()
        if self._running:
            await asyncio.wait(self._running)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._running[task] = writer
        try:
            if await self._let_in(reader, writer):
                await self._take_from(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            del self._running[task]
            writer.transport.abort()

    async def _let_in(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, body = await read_packet(reader)
        if first != 0x10 or body[:7] != b"\0\4MQTT\5":
            self.wrong.append("no CONNECT of MQTT 5")
            return False
        complaint = self._connects.add(asyncio.get_running_loop().time(), 1)
        if complaint is not None:
            self.exceeded.append(complaint)
            return False
        if self.preset == "thingsboard" and TOKEN.encode() not in body:
            writer.write(b"\x20\x03\0\x87\0")
            return False
        if self.has_trouble():
            return False
        writer.write(b"\x20\x03\0\0\0")
        return True

    async def _take_from(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._in_flight = 0
        while True:
            first, body = await read_packet(reader)
            if first >> 4 == 0xE:  # DISCONNECT
                return
            if first >> 4 != 3:
                continue
            if first & 6 != 2:
                self.wrong.append("a message of another QoS than 1")
            length = int.from_bytes(body[:2], "big")
            topic, packet_id = body[2 : 2 + length].decode(), body[2 + length : 4 + length]
            payload = body[5 + length + body[4 + length] :]
            assert body[4 + length] < 0x80, "longer properties than this server reads"
            if topic != self.topic or topic.count("/") > _SLASHES_MAX:
                self.wrong.append(f"to {topic}")
            self._in_flight += 1
            if self._in_flight > self.limits.in_flight:
                self.exceeded.append(f"{self._in_flight} in flight")
                return
            if not self._takes(packet_id, payload, writer):
                return

    def _takes(self, packet_id: bytes, payload: bytes, writer: asyncio.StreamWriter) -> bool:
        """Deal with one message; False ends the connection."""
        if self.too_large(payload):
            return False
        try:
            said = self.read(payload)
        except (ValueError, KeyError, TypeError) as error:
            self.wrong.append(f"cannot be read: {error!r}")
            return False
        if not self.counted(payload, self.count_values(said)):
            if self.preset == "generic-mqtt":
                self._answer(writer, packet_id, QUOTA_EXCEEDED)
            return self.preset != "thingsboard"
        if self.has_trouble():
            trouble = self.rng.choice(["no answer", "cut", "quota"])
            if trouble == "quota":
                self._answer(writer, packet_id, QUOTA_EXCEEDED)
            return trouble != "cut"
        self.take(said)
        self._answer(writer, packet_id, 0)
        return True

    def _answer(self, writer: asyncio.StreamWriter, packet_id: bytes, code: int) -> None:
        def answer() -> None:
            self._in_flight -= 1
            writer.write(b"\x40\x03" + packet_id + bytes((code,)))

        delay_s = self.rng.uniform(0.5, 1.5) * self.latency_s
        asyncio.get_running_loop().call_later(delay_s, answer)


@dataclass
class HttpCloud(CloudServer):
    """A web server of one cloud; an asynchronous context manager."""

    waits: int = 0
    """How often it was asked to wait."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._asked = 0
        self._not_before_s = 0.0

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=1 << 30)
        app.router.add_post("/{tail:.*}", self._handle)
        self._runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        answer = self._answer_to(request, await request.read())
        await asyncio.sleep(self.rng.uniform(0.5, 1.5) * self.latency_s)
        if answer is None:
            assert request.transport is not None
            request.transport.close()
        return answer or web.Response(status=503)

    def _answer_to(self, request: web.Request, sent: bytes) -> web.Response | None:
        """None for a connection that ends."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._not_before_s:
            self.wrong.append(f"{self._not_before_s - now_s:.1f} s before Retry-After is over")
        refused = self._let_in(request) or (web.Response(status=413) if self.too_large(sent) else None)
        if refused is not None:
            self.wrong.append(refused.reason)
            return refused
        gzipped = request.headers.get("Content-Encoding") == "gzip"
        if gzipped and self.preset != "influxdb":
            self.wrong.append("compressed")
        try:
            said = self.read(gzip.decompress(sent) if gzipped else sent)
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            self.wrong.append(f"cannot be read: {error!r}")
            return web.Response(status=400, text=f"unable to parse: {error!r}")
        return self._answer_to_readings(said, sent)

    def _answer_to_readings(self, said: dict[Any, Any], sent: bytes) -> web.Response | None:
        now_s = asyncio.get_running_loop().time()
        if not self.counted(sent, self.count_values(said)):
            return web.Response(status=429)
        if self.preset == "influxdb" and self._is_over_quota(now_s):
            return web.Response(status=429, headers={"Retry-After": "7"})
        if self.has_trouble():
            trouble = self.rng.choice([0, 503, 413] if len(said) > 1 else [0, 503])
            return web.Response(status=trouble) if trouble else None
        self.take(said)
        return web.Response(status=204 if self.preset == "influxdb" else 200)

    def _is_over_quota(self, now_s: float) -> bool:
        """InfluxDB's quota is of bytes in minutes; here it is used up by every third message."""
        self._asked += 1
        if self._asked % 3:
            return False
        self._not_before_s = now_s + 7
        self.waits += 1
        return True

    def _let_in(self, request: web.Request) -> web.Response | None:
        if self.preset == "thingsboard":
            asked = [unquote(part) for part in request.rel_url.raw_path.split("/")]
            return None if asked == ["", "api", "v1", TOKEN, "telemetry"] else web.Response(status=401)
        if self.preset == "influxdb":
            if request.headers.get("Authorization") != f"Token {TOKEN}":
                return web.Response(status=401)
            asked = (request.path, dict(request.query))
            known = ("/api/v2/write", {"org": ORG, "bucket": BUCKET, "precision": "ns"})
            return None if asked == known else web.Response(status=404)
        return None if request.headers.get("Authorization") == f"Bearer {TOKEN}" else web.Response(status=401)
