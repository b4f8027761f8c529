"""Url and credentials are all that a preset needs: where packs go, how it lets us in, and what the doctor says when it does not."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from agent.sync import registry
from agent.sync.examination import examine
from agent.sync.http_upstream import address_of, authorization_of
from collectors.clock import SystemClock
from drivers.transport.secrecy import Secrecy
from tests.rigs.certificates import make_certificates
from tests.rigs.programs import free_port
from tests.rigs.scripted_broker import CONNACK_5, read_packet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from drivers.examination import Finding

TOKEN = "t0ken/with=all"


@pytest.fixture
def token(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "token").write_text(TOKEN)
    return {"file": str(tmp_path / "token")}


INFLUX = {"preset": "influxdb", "org": "my org", "bucket": "b&c"}
QUERY = "org=my+org&bucket=b%26c&precision=ns"


@pytest.mark.parametrize(
    ("written", "address", "authorization"),
    [
        ({**INFLUX, "url": "https://i.example"}, f"https://i.example/api/v2/write?{QUERY}", f"Token {TOKEN}"),
        (
            {**INFLUX, "url": "https://i.example/"},
            f"https://i.example/api/v2/write?{QUERY}",
            f"Token {TOKEN}",
        ),
        (
            {**INFLUX, "url": "https://i.example/api/v2/write?precision=ms&org=x&db=1"},
            f"https://i.example/api/v2/write?db=1&{QUERY}",
            f"Token {TOKEN}",
        ),
        (
            {"preset": "thingsboard", "url": "https://tb.example/"},
            "https://tb.example/api/v1/t0ken%2Fwith%3Dall/telemetry",
            None,
        ),
        (
            {"preset": "thingsboard", "url": "https://example.com/tb/"},
            "https://example.com/tb/api/v1/t0ken%2Fwith%3Dall/telemetry",
            None,
        ),
        (
            {"preset": "generic-http", "url": "https://x.example/a?b=c"},
            "https://x.example/a?b=c",
            f"Bearer {TOKEN}",
        ),
    ],
)
def test_where_packs_are_posted_and_with_what(
    written: dict[str, Any], address: str, authorization: str | None, token: dict[str, str]
) -> None:
    options: Any = registry.load_options_class("http").model_validate({**written, "token": token})
    assert address_of(options, Secrecy()) == address
    assert authorization_of(options, Secrecy()) == authorization


async def log_in(options: Any, tls: ssl.SSLContext) -> tuple[str | None, bytes]:
    """What is negotiated by ALPN, and CONNECT, when an upstream logs in at a broker on this port."""
    seen: list[Any] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        seen.append((await read_packet(reader))[1])
        writer.write(CONNACK_5)
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", options.url.rpartition(":")[2], ssl=tls)
    async with server:
        upstream = registry.create_upstream(options, "greenhouse-3", SystemClock())
        await upstream.connect()
        await upstream.disconnect()
    protocol, connect = seen
    return protocol, connect


async def test_aws_is_asked_for_mqtt_where_https_has_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    files = await asyncio.to_thread(make_certificates, tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca_file)
    tls.load_cert_chain(files.server_cert_file, files.server_key_file)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.set_alpn_protocols(["http/1.1", "x-amzn-mqtt-ca"])
    for https_port, protocol in ((port, "x-amzn-mqtt-ca"), (443, None)):
        monkeypatch.setattr("agent.sync.presets._AWS_ALPN_PORT", https_port)
        options = registry.load_options_class("mqtt").model_validate(
            {
                "preset": "aws-iot-core",
                "url": f"mqtts://localhost:{port}",
                "client_id": "my-thing",
                "ca_file": files.ca_file,
                "cert_file": files.client_cert_file,
                "key": {"file": files.client_key_file},
            }
        )
        negotiated, connect = await log_in(options, tls)
        assert negotiated == protocol
        assert connect.endswith(b"\0\x08my-thing")


@asynccontextmanager
async def cloud(token: str = TOKEN) -> AsyncIterator[str]:
    """InfluxDB and ThingsBoard, as far as the doctor asks; gives the url."""

    async def write(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != f"Token {token}":
            return web.Response(status=401)
        if (request.query["org"], request.query["bucket"]) != ("my org", "b&c"):
            return web.Response(status=404)
        assert not await request.read()
        return web.Response(status=400, text="writing requires points")

    async def attributes(request: web.Request) -> web.Response:
        return web.Response(status=200 if request.match_info["token"] == token else 401, text="{}")

    app = web.Application()
    app.router.add_post("/api/v2/write", write)
    app.router.add_get("/api/v1/{token}/attributes", attributes)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("written", "theirs", "level", "says"),
    [
        (INFLUX, TOKEN, "ok", "lets us in"),
        (INFLUX, "another", "problem", "credentials"),
        ({**INFLUX, "bucket": "none"}, TOKEN, "problem", "bucket"),
        ({"preset": "thingsboard"}, TOKEN, "ok", "200"),
        ({"preset": "thingsboard"}, "another", "problem", "credentials"),
    ],
)
async def test_the_doctor_sees_whether_a_cloud_lets_us_in(
    written: dict[str, Any], theirs: str, level: str, says: str, token: dict[str, str]
) -> None:
    async with cloud(theirs) as url:
        options: Any = registry.load_options_class("http").model_validate(
            {**written, "url": url, "token": token}
        )
        finding: Finding
        (finding,) = await examine(SimpleNamespace(name="cloud", options=options))  # type: ignore[arg-type]
    assert (finding.level, says in finding.what) == (level, True), finding
