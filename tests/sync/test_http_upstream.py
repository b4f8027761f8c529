"""The HTTP upstream against a real server: what each answer means, and what a bad network does."""

from __future__ import annotations

import asyncio
import base64
import ssl
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from pydantic_core import to_json

from agent.receiver.packs import unpack
from agent.sync.config import HttpUpstreamOptions
from agent.sync.http_upstream import HttpUpstream, retry_after_s
from agent.sync.packing import Packer
from agent.sync.upstream import LinkLost, Paused, Rejected, RetryLater, TooLarge
from collectors.clock import SystemClock
from tests.rigs.certificates import make_certificates
from tests.rigs.proxy import ChaosProxy
from tests.sync.memory_buffer import MemoryRecord, reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from agent.sync.upstream import Pack, UpstreamError


def pack(count: int = 20) -> Pack:
    records = [MemoryRecord(n, reading("soil", n)) for n in range(1, count + 1)]
    return Packer(48 * 1024).pack("greenhouse-3", "5a" * 16, records)


class Server:
    """Answers as told; remembers the requests."""

    def __init__(self) -> None:
        self.answer: Callable[[], web.StreamResponse] = lambda: web.Response(text="ok")
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self.port = 0
        self.stall = False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        self.requests.append(({k.title(): v for k, v in request.headers.items()}, body))
        if self.stall:
            await asyncio.sleep(3600)
        return self.answer()


@asynccontextmanager
async def server(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    made = Server()
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", made.handle)
    runner = web.AppRunner(app, auto_decompress=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    made.port = runner.addresses[0][1]
    made.url = f"{'https://localhost' if tls else 'http://127.0.0.1'}:{made.port}/readings"
    try:
        yield made
    finally:
        await runner.cleanup()


@asynccontextmanager
async def upstream(url: str, **options: Any) -> AsyncIterator[HttpUpstream]:
    checked = await asyncio.to_thread(lambda: HttpUpstreamOptions(url=url, **options))
    made = HttpUpstream(checked, SystemClock())
    await made.connect()
    try:
        yield made
    finally:
        await made.disconnect()


async def outcome(sending: HttpUpstream, what: Pack | None = None) -> UpstreamError:
    with pytest.raises(ConnectionError) as caught:
        await sending.send(what or pack())
    return caught.value  # type: ignore[return-value]


async def test_what_a_request_looks_like() -> None:
    async with server() as s, upstream(s.url) as u:
        await u.send(pack(20))
        await u.send(pack(9))
    (headers, body), (small, plain) = s.requests
    assert headers["Content-Type"] == "application/senml+json"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["Idempotency-Key"] == f"greenhouse-3/{'5a' * 16}/1-20-20/{pack().digest}"
    assert "Authorization" not in headers
    assert [r.seq for r in unpack(body).readings] == list(range(1, 21))
    assert "Content-Encoding" not in small
    assert plain.startswith(b"[{")


@pytest.mark.parametrize("status", [200, 201, 202, 204])
async def test_success_acknowledges(status: int) -> None:
    async with server() as s, upstream(s.url) as u:
        s.answer = lambda: web.Response(status=status)
        await u.send(pack())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, RetryLater),
        (425, RetryLater),
        (429, RetryLater),
        (500, RetryLater),
        (502, RetryLater),
        (503, RetryLater),
        (599, RetryLater),
        (413, TooLarge),
        (401, Paused),
        (403, Paused),
        (407, Paused),
        (404, Paused),
        (405, Paused),
        (410, Paused),
        (301, Paused),
        (302, Paused),
        (307, Paused),
        (304, Paused),
        (400, Rejected),
        (409, Rejected),
        (415, Rejected),
        (422, Rejected),
    ],
)
async def test_what_each_refusal_means(status: int, kind: type[UpstreamError]) -> None:
    async with server() as s, upstream(s.url) as u:
        s.answer = lambda: web.Response(status=status, headers={"Location": "/login"})
        error = await outcome(u)
        assert type(error) is kind
        assert getattr(error, "in_part", False) is (status in {400, 422})
        assert str(status) in str(error)
        assert len(s.requests) == 1, "no redirect is followed"


async def test_the_reason_in_the_answer_is_told_and_bounded() -> None:
    async with server() as s, upstream(s.url) as u:
        s.answer = lambda: web.Response(status=400, text="no such\nmetric " + "x" * 200_000)
        text = str(await outcome(u))
        assert "no such metric xxx" in text
        assert len(text) < 600


INFLUXDB_2 = (
    '{"code":"unprocessable entity","message":"failure writing points to database: partial write: field type conflict: '
    'input field \\"v\\" on measurement \\"readings\\" is type string, already exists as type float dropped=1"}'
)
INFLUXDB_3 = (
    '{"error":"partial write of line protocol occurred","data":[{"error_message":"invalid column type for column '
    "'v', expected iox::column_type::field::float, got iox::column_type::field::string\"}]}"
)


@pytest.mark.parametrize(
    ("status", "body"), [(422, INFLUXDB_2), (400, INFLUXDB_3), (400, f"{'x' * 1000} field type conflict")]
)
async def test_what_to_do_about_a_metric_that_has_two_types_is_said(status: int, body: str) -> None:
    remedy = "give the metric of one of the sources another name (`select` with `rename`), or write to another bucket"
    async with server() as s, upstream(s.url, format="influx", org="o", bucket="b") as u:
        s.answer = lambda: web.Response(status=status, text=body)
        error = await outcome(u)
        assert str(error).endswith(remedy)
        assert isinstance(error, Rejected)
        assert error.in_part
        s.answer = lambda: web.Response(status=status, text="unable to parse")
        assert remedy not in str(await outcome(u))


async def test_a_reason_is_told_by_a_server_that_compresses_where_it_may() -> None:
    def answer() -> web.Response:
        made = web.Response(status=400, text="unable to parse" + " " * 2000)
        made.enable_compression()
        return made

    async with server() as s, upstream(s.url) as u:
        s.answer = answer
        assert "unable to parse" in str(await outcome(u))


async def test_retry_after_is_understood() -> None:
    async with server() as s, upstream(s.url) as u:
        s.answer = lambda: web.Response(status=429, headers={"Retry-After": "17"})
        error = await outcome(u)
        assert isinstance(error, RetryLater)
        assert error.retry_after_s == 17


def test_retry_after_in_all_its_forms() -> None:
    clock = SystemClock()
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert 80 < (retry_after_s(later, clock) or 0) <= 90
    assert retry_after_s("Sun, 06 Nov 1994 08:49:37 GMT", clock) == 0
    assert retry_after_s("0", clock) == 0
    for nonsense in (None, "", "soon", "-1", "1.5", "²", "9" * 400, "Sun, 99 Nov 1994 08:49:37 GMT"):
        assert retry_after_s(nonsense, clock) is None


async def test_credentials_come_from_files_and_are_read_again(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("first\n")
    async with server() as s, upstream(s.url, token={"file": token}) as u:
        await u.send(pack())
        s.answer = lambda: web.Response(status=401)
        token.write_text("second\n")
        error = await outcome(u)
        assert "first" not in str(error)
        s.answer = web.Response
        await u.send(pack())
        assert [h["Authorization"] for h, _ in s.requests] == [
            "Bearer first",
            "Bearer first",
            "Bearer second",
        ]


async def test_user_and_password(tmp_path: Path) -> None:
    (tmp_path / "word").write_text("sécret")
    async with server() as s, upstream(s.url, username="me", password={"file": tmp_path / "word"}) as u:
        await u.send(pack())
    expected = base64.b64encode("me:sécret".encode()).decode()
    assert s.requests[0][0]["Authorization"] == f"Basic {expected}"


async def test_a_missing_credential_pauses(tmp_path: Path) -> None:
    made = HttpUpstream(
        HttpUpstreamOptions(url="http://127.0.0.1:9/", token={"file": tmp_path / "none"}), SystemClock()
    )
    with pytest.raises(Paused, match="credentials cannot be read"):
        await made.connect()


async def test_a_token_of_two_lines_is_the_wrong_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first\nsecond\n")
    with pytest.raises(Paused, match="line break"):
        async with server() as s, upstream(s.url, token={"file": tmp_path / "token"}):
            raise AssertionError("nobody can send that")


async def test_systemd_credentials_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cloud-token").write_text("abc")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    async with server() as s, upstream(s.url, token={"credential": "cloud-token"}) as u:
        await u.send(pack())
    assert s.requests[0][0]["Authorization"] == "Bearer abc"


async def test_a_captive_portal_is_no_acknowledgement() -> None:
    async with server() as s, upstream(s.url, ack="receiver") as u:
        for body in (
            b"<html>Please log in</html>",
            b"{}",
            b"[]",
            to_json({"acked": [pack(19).digest]}),
        ):
            s.answer = lambda body=body: web.Response(body=body)  # type: ignore[misc]
            assert type(await outcome(u)) is Paused
            s.answer = lambda body=body: web.Response(status=400, body=body)  # type: ignore[misc]
            assert type(await outcome(u)) is Paused
        s.answer = lambda: web.Response(body=to_json({"acked": [pack().digest]}))
        await u.send(pack())
        for status in (200, 400):
            in_part = status == 200
            said = to_json({"rejected_in_part" if in_part else "rejected": [[pack().digest, "no `store`"]]})
            s.answer = lambda said=said, status=status: web.Response(status=status, body=said)  # type: ignore[misc]
            refused = await outcome(u)
            assert isinstance(refused, Rejected)
            assert refused.in_part is in_part
            assert str(refused) == "the receiver refused it: no `store`"


@pytest.mark.parametrize(
    "preset", [{"preset": "influxdb", "org": "o", "bucket": "b"}, {"preset": "thingsboard"}]
)
async def test_what_a_cloud_does_not_say_is_no_acknowledgement_of_its(
    preset: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("t0ken")
    async with server() as s, upstream(s.url, token={"file": tmp_path / "token"}, **preset) as u:
        s.answer = lambda: web.Response(text="<html>Please log in</html>")
        error = await outcome(u)
        assert type(error) is Paused
        assert "log-in page" in str(error)
        for status in (200, 204):
            s.answer = lambda status=status: web.Response(status=status)  # type: ignore[misc]
            await u.send(pack())


async def test_nobody_listens() -> None:
    async with server() as s:
        pass
    with pytest.raises(RetryLater, match=r"127\.0\.0\.1"):
        async with upstream(s.url):
            pass


async def test_a_server_that_goes_away() -> None:
    async with server() as s:
        made = upstream(s.url)
        u = await made.__aenter__()
    assert type(await outcome(u)) is RetryLater
    await made.__aexit__(None, None, None)


async def test_a_silent_server_times_out() -> None:
    async with server() as s, upstream(s.url, timeout=0.2) as u:
        s.stall = True
        error = await outcome(u)
        assert type(error) is RetryLater
        assert "no answer within 0.2 s" in str(error)


async def test_a_half_open_link_times_out_and_heals() -> None:
    async with (
        server() as s,
        ChaosProxy(("127.0.0.1", s.port)) as proxy,
        upstream(f"http://127.0.0.1:{proxy.port}/readings", timeout=0.3) as u,
    ):
        await u.send(pack())
        proxy.half_close()
        assert type(await outcome(u)) is RetryLater
        proxy.heal()
        await u.send(pack())


async def test_a_link_cut_in_the_middle_of_a_pack() -> None:
    async with (
        server() as s,
        ChaosProxy(("127.0.0.1", s.port)) as proxy,
        upstream(f"http://127.0.0.1:{proxy.port}/readings") as u,
    ):
        proxy.set_weather("up", cut_after_bytes=200)
        assert isinstance(await outcome(u), RetryLater)
        proxy.heal()
        proxy.set_weather("down", cut_after_bytes=10)
        assert isinstance(await outcome(u), RetryLater), "half an answer is none"
        proxy.heal()
        await u.send(pack())


async def test_sending_without_a_connection() -> None:
    made = HttpUpstream(HttpUpstreamOptions(url="http://127.0.0.1:9/"), SystemClock())
    await made.disconnect()
    assert type(await outcome(made)) is LinkLost


async def test_tls_with_our_own_authority(tmp_path: Path) -> None:
    files = await asyncio.to_thread(make_certificates, tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=files.ca_file)
    tls.load_cert_chain(files.server_cert_file, files.server_key_file)
    tls.verify_mode = ssl.CERT_REQUIRED
    own = {"cert_file": files.client_cert_file, "key": {"file": files.client_key_file}}
    async with server(tls) as s:
        async with upstream(s.url, ca_file=files.ca_file, **own) as u:
            await u.send(pack())
        async with upstream(s.url) as u:
            error = await outcome(u)
            assert type(error) is Paused
            assert "not trusted" in str(error)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"url": "ftp://host/"}, "https://host/readings"),
        ({"url": "http:///x"}, "https://host/readings"),
        ({"url": "http://me:secret@host/"}, "out of the URL"),
        ({"url": "http://localhost/", "password": {"file": "x"}}, "needs a `username`"),
        ({"url": "https://host/", "key": {"file": "x"}}, "needs a `cert_file`"),
        ({"url": "http://localhost/", "ca_file": "x"}, "need TLS"),
        ({"url": "http://localhost/", "token": {"file": "x"}, "username": "me"}, "not both"),
        ({"url": "http://localhost/", "tokenfile": "x"}, "Extra inputs"),
        ({"url": "http://localhost/", "retry": {"base": "1 min", "cap": "1 s"}}, "must not exceed"),
    ],
)
def test_options_that_cannot_be_right(options: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        HttpUpstreamOptions(**options)


def test_options_as_people_write_them() -> None:
    options = HttpUpstreamOptions.model_validate(
        {
            "url": "https://host/",
            "linger": "200 ms",
            "message_size": "64 KiB",
            "retry": {"first": 0, "cap": "2 s"},
        }
    )
    assert options.send_options().linger_s == 0.2
    assert options.message_size == 65536
    assert (options.retry.policy().first_s, options.retry.policy().cap_s) == (0, 2)
    assert not options.plain_over_network
    assert HttpUpstreamOptions(url="http://host/", tls=False).plain_over_network
    assert not HttpUpstreamOptions(url="http://127.0.0.1:1/").plain_over_network
