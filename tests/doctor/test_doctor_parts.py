"""Each check says what it sees, and what to do about it; one that fails or hangs ends no other."""

from __future__ import annotations

import asyncio
import grp
import os
import pwd
import socket
import ssl
import stat
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from agent.composition.catalogue import catalogue
from agent.config import load_config
from agent.config.model import BufferConfig
from agent.doctor import configuration, disk, network, power, store
from agent.doctor.rounds import Check, examine
from agent.doctor.x509 import NotACertificateError, ends_of
from agent.sync.config import HttpUpstreamOptions, MqttUpstreamOptions
from agent.sync.examination import examine as examine_upstream
from buffer import BufferDB
from drivers.ble.examine import _blocked
from drivers.examination import Examined, Level, Person, may, ok
from drivers.mqtt.config import MqttSourceConfig
from drivers.mqtt.examine import examine as examine_broker
from drivers.serial.config import SerialConfig
from drivers.serial.examine import examine as examine_port
from drivers.transport.credentials import TlsFiles
from tests.rigs.certificates import make_certificates
from tests.rigs.configuration import counting_source, device, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.programs import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from drivers.examination import Finding
    from tests.rigs.certificates import Certificates

ROOT = Person("root", 0, frozenset({0}))
NOBODY = Person("nobody", 65534, frozenset({65534}))


def said(findings: list[Finding]) -> list[tuple[str, str]]:
    assert all(finding.remedy or finding.level in {Level.OK, Level.UNKNOWN} for finding in findings), findings
    return [(finding.level.value, finding.what) for finding in findings]


def the(findings: list[Finding], level: str) -> Finding:
    (found,) = [finding for finding in findings if finding.level == level]
    return found


# Rounds


async def test_a_check_that_fails_or_hangs_is_told_and_ends_no_other():
    async def good() -> list[Finding]:
        return [ok("good", "fine")]

    async def bad() -> list[Finding]:
        raise RuntimeError("broken")

    async def hanging() -> list[Finding]:
        await asyncio.Event().wait()
        return []

    async def late() -> list[Finding]:
        raise TimeoutError("of its own")

    looks = [hanging, bad, good, late]
    began = time.monotonic()
    reports = await examine([Check(look.__name__, "it", look, 0.2) for look in looks])
    assert time.monotonic() - began < 5
    assert [report.check for report in reports] == ["hanging", "bad", "good", "late"]
    levels = [report.findings[0].level for report in reports]
    assert levels == [Level.UNKNOWN, Level.UNKNOWN, Level.OK, Level.UNKNOWN]
    assert "not done within 0.2 s" in reports[0].findings[0].what
    assert reports[1].findings[0].what == "RuntimeError: broken"
    assert "of its own" in reports[3].findings[0].what


# Power


def sysfs(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


@pytest.mark.parametrize(
    ("bits", "levels"),
    [
        ("0", ["ok"]),
        ("50005", ["problem", "warning"]),
        ("50000", ["problem", "warning"]),
        ("80008", ["ok", "warning"]),
    ],
)
def test_under_voltage_is_told_where_the_pi_tells(tmp_path: Path, bits: str, levels: list[str]):
    root = sysfs(tmp_path, {"sys/devices/platform/soc/soc:firmware/get_throttled": f"{bits}\n"})
    assert [level for level, _ in said(list(power.findings(root)))] == levels


def test_the_kernels_monitor_tells_where_the_firmware_does_not(tmp_path: Path):
    assert [level for level, _ in said(list(power.findings(tmp_path)))] == ["unknown"]
    monitor = {"sys/class/hwmon/hwmon0/name": "cpu_thermal\n", "sys/class/hwmon/hwmon1/name": "rpi_volt\n"}
    sysfs(tmp_path, {**monitor, "sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"})
    sysfs(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "83000\n"})
    assert [level for level, _ in said(list(power.findings(tmp_path)))] == ["problem", "warning"]


# Disk


def mounted(root: Path, kind: str, options: str, device: str = "/dev/mmcblk0p2") -> Path:
    lines = [
        "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw",
        f"30 22 179:3 / {str(root).replace(' ', chr(92) + '040')} {options} shared:2 - {kind} {device} {options}",
    ]
    sysfs(root, {"proc/self/mountinfo": "\n".join(lines) + "\n"})
    return root


@pytest.mark.parametrize(
    ("kind", "options", "level", "word"),
    [
        ("ext4", "rw,noatime,lazytime,commit=30", "ok", "commit=30, lazytime, noatime"),
        ("ext4", "ro,relatime", "problem", "read-only"),
        ("tmpfs", "rw", "problem", "in memory"),
        ("vfat", "rw,relatime", "warning", "power cuts"),
        ("nfs4", "rw,relatime", "warning", "another machine"),
        ("overlay", "rw,relatime", "warning", "what is below"),
        ("ext4", "rw,strictatime", "warning", "writes to the card"),
    ],
)
def test_a_file_system_that_harms_the_buffer_is_told(
    tmp_path: Path, kind: str, options: str, level: str, word: str
):
    place = tmp_path / "a b"
    found = said(list(disk.findings(BufferConfig(path=place / "buffer"), mounted(place, kind, options))))
    assert [entry for entry in found if entry[0] == level and word in entry[1]], found


def test_errors_of_the_file_system_and_a_worn_card_are_told(tmp_path: Path):
    root = mounted(tmp_path, "ext4", "rw,noatime", "/dev/mmcblk0p3")
    sysfs(
        root, {"sys/fs/ext4/mmcblk0p3/errors_count": "3\n", "sys/devices/mmcblk0/mmcblk0p3/partition": "3\n"}
    )
    sysfs(root, {"sys/devices/mmcblk0/device/life_time": "0x02 0x0a\n"})
    (root / "sys/class/block").mkdir(parents=True)
    (root / "sys/class/block/mmcblk0p3").symlink_to(root / "sys/devices/mmcblk0/mmcblk0p3")
    found = said(list(disk.findings(BufferConfig(path=root / "buffer"), root)))
    assert ("problem", "ext4 has counted 3 errors") in found
    assert ("warning", "up to 100 % of its life is used up, as it says") in found


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = mounted(tmp_path, "ext4", "rw,noatime")
    for blocks_free, level in ((10, "problem"), (400, "warning"), (5000, "ok")):
        state = SimpleNamespace(f_bavail=blocks_free, f_blocks=10_000, f_frsize=4096, f_files=0, f_favail=0)
        monkeypatch.setattr(os, "statvfs", lambda _, state=state: state)
        found = list(disk.findings(BufferConfig(path=root, reserve=1 << 20), root))
        assert found[0].level == level


# Network


def test_the_end_of_a_certificate_is_read_as_openssl_reads_it(tmp_path: Path):
    certificates = make_certificates(tmp_path, days=40)
    for file in (certificates.ca_file, certificates.server_cert_file, certificates.client_cert_file):
        decoded = ssl._ssl._test_decode_cert(str(file))  # the standard library's own, for its tests
        seconds = ssl.cert_time_to_seconds(decoded["notAfter"])
        assert ends_of(file.read_bytes()) == [datetime.fromtimestamp(seconds, UTC)]
    pem = certificates.server_cert_file.read_bytes()
    assert len(ends_of(pem + certificates.ca_file.read_bytes())) == 2
    for spoilt in (b"", pem.replace(b"M", b"#"), pem[:60] + pem[-30:]):
        with pytest.raises(NotACertificateError):
            ends_of(spoilt)


@asynccontextmanager
async def tls_server(certificates: Certificates) -> AsyncIterator[int]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificates.server_cert_file, certificates.server_key_file)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def reached(
    certificates: Certificates, host: str = "localhost", *, trusted: bool = True
) -> list[Finding]:
    async with tls_server(certificates) as port:
        files = TlsFiles(certificates.ca_file if trusted else None)
        return await network.findings(network.Place("cloud", f"https://{host}:{port}/x", files))


async def test_a_certificate_is_judged_by_its_end_its_name_and_its_authority(tmp_path: Path):
    make = asyncio.to_thread
    good = await make(make_certificates, tmp_path / "good", days=400)
    assert "good until" in the([f for f in await reached(good) if "server" in f.what], "ok").what
    soon = await make(make_certificates, tmp_path / "soon", days=20)
    assert "expires on" in the(await reached(soon), "warning").what
    other = await make(make_certificates, tmp_path / "other", server_name="example.org", days=400)
    wrong = [finding for finding in await reached(other) if "not trusted" in finding.what]
    assert "name that the certificate is for" in str(wrong[0].remedy)
    unknown = [finding for finding in await reached(good, trusted=False) if "not trusted" in finding.what]
    assert "`ca_file`" in str(unknown[0].remedy)
    late = await make(make_certificates, tmp_path / "late", days=-1)
    expired = [finding for finding in await reached(late) if "not trusted" in finding.what]
    assert "have it renewed" in str(expired[0].remedy)


async def test_a_name_a_port_and_files_that_are_wrong_are_told(tmp_path: Path):
    nowhere = await network.findings(network.Place("a", "mqtt://no.such.invalid", TlsFiles()))
    assert "cannot be resolved" in the(nowhere, "problem").what
    refused = await network.findings(network.Place("a", f"mqtt://127.0.0.1:{free_port()}", TlsFiles()))
    assert the(refused, "problem").what.endswith(": Connection refused")
    assert "is the server running" in str(the(refused, "problem").remedy)
    (tmp_path / "ca.pem").write_text("no certificate")
    files = TlsFiles(tmp_path / "ca.pem")
    spoilt = await network.findings(network.Place("a", "mqtts://localhost", files))
    assert [finding.level for finding in spoilt] == ["problem", "problem"]
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        url = f"mqtt://127.0.0.1:{deaf.getsockname()[1]}"
        assert said(await network.findings(network.Place("a", url, TlsFiles())))[0][0] == "ok"


# Brokers and servers


def mqtt_source(port: int, **options: object) -> Examined:
    config = MqttSourceConfig.model_validate({"url": f"mqtt://127.0.0.1:{port}", "topics": ["a"], **options})
    return Examined("hall", config, ROOT)


async def test_a_log_in_says_who_refuses_and_how_much_mosquitto_keeps(tmp_path: Path):
    password = tmp_path / "password"
    password.write_text("wrong\n")
    with Mosquitto(BrokerSettings(users={"hall": "right"})) as broker:
        source = mqtt_source(broker.port, username="hall", password={"file": password})
        assert "broker refused" in the(await examine_broker(source), "problem").what
        password.write_text("right\n")
        logged_in, queue = await examine_broker(source)
        assert "logged in (mosquitto" in logged_in.what
        assert "drops what is beyond 1000 messages" in queue.what
        assert "max_queued_messages 0" in str(queue.remedy)
        assert (
            len(
                await examine_broker(
                    mqtt_source(broker.port, qos=0, username="hall", password={"file": password})
                )
            )
            == 1
        )
        upstream = MqttUpstreamOptions(
            url=f"mqtt://127.0.0.1:{broker.port}", username="hall", password={"file": password}, ack="broker"
        )
        told = await examine_upstream(SimpleNamespace(name="cloud", options=upstream))
        assert [finding.level for finding in told] == ["ok", "warning", "warning"]
        password.unlink()
        assert "cannot be read" in the(await examine_broker(source), "problem").what


async def test_an_http_server_is_asked_without_sending_anything():
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append((request.method, request.headers.get("Authorization")))
        status = int(request.path.strip("/"))
        return web.Response(status=status, headers={"Location": "http://portal/"} if status == 302 else {})

    app = web.Application()
    app.router.add_route("*", "/{status}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    levels = {}
    try:
        for status in (200, 405, 401, 404, 302, 503, 400):
            options = HttpUpstreamOptions(url=f"http://127.0.0.1:{port}/{status}")
            (finding,) = await examine_upstream(SimpleNamespace(name="cloud", options=options))
            levels[status] = finding.level.value
    finally:
        await runner.cleanup()
    assert {method for method, _ in asked} == {"HEAD"}
    assert levels == {
        200: "ok",
        405: "ok",
        401: "problem",
        404: "problem",
        302: "problem",
        503: "warning",
        400: "unknown",
    }


# Ports


def serial(port: Path | str, agent: Person = ROOT) -> Examined:
    return Examined("boiler", SerialConfig.model_validate({"port": str(port)}), agent)


async def test_a_port_is_told_with_who_may_use_it_and_who_holds_it(tmp_path: Path):
    assert "No such file" in the(await examine_port(serial(tmp_path / "absent")), "problem").what
    (tmp_path / "file").touch()
    assert "no serial port" in the(await examine_port(serial(tmp_path / "file")), "problem").what
    assert (await examine_port(serial("socket://127.0.0.1:1")))[0].level == "unknown"
    master, slave = os.openpty()
    try:
        port = os.ttyname(slave)
        state = Path(port).stat()
        refused = the([f for f in await examine_port(serial(port, NOBODY)) if "may not" in f.what], "problem")
        group = grp.getgrgid(state.st_gid).gr_name
        assert f"sudo usermod -aG {group} nobody" in str(refused.remedy)
        assert ("ok", f"{port}: the user root may use it") in said(await examine_port(serial(port)))
        holder = await asyncio.create_subprocess_exec("sleep", "30", stdin=slave)
        try:
            held = the([f for f in await examine_port(serial(port)) if "held" in f.what], "problem")
            assert f"sleep (pid {holder.pid})" in held.what
            agent = Person("root", 0, frozenset({0}), holder.pid)
            assert f"{port}: held by the agent and nobody else" in [
                finding.what for finding in await examine_port(serial(port, agent))
            ]
        finally:
            holder.kill()
            await holder.wait()
    finally:
        os.close(master)
        os.close(slave)


def test_permissions_are_those_of_the_agents_user():
    def state(mode: int) -> os.stat_result:
        return os.stat_result((stat.S_IFCHR | mode, 0, 0, 1, 1000, 20, 0, 0, 0, 0))

    owner, member, other = (Person("x", 1000, frozenset()), Person("y", 1, frozenset({20})), NOBODY)
    assert [may(person, state(0o660), 6) for person in (owner, member, other, ROOT)] == [
        True,
        True,
        False,
        True,
    ]
    assert [may(person, state(0o604), 4) for person in (owner, member, other)] == [True, False, True]


def test_a_blocked_radio_is_named(tmp_path: Path):
    assert _blocked(tmp_path) is None
    switch = {"rfkill0/type": "wlan\n", "rfkill0/soft": "1\n", "rfkill0/hard": "0\n"}
    sysfs(
        tmp_path, {**switch, "rfkill1/type": "bluetooth\n", "rfkill1/name": "hci0\n", "rfkill1/hard": "0\n"}
    )
    sysfs(tmp_path, {"rfkill1/soft": "0\n"})
    assert _blocked(tmp_path) is None
    sysfs(tmp_path, {"rfkill1/soft": "1\n"})
    assert _blocked(tmp_path) == "hci0 by software"


# Buffer


def test_a_buffer_is_looked_at_quickly_or_byte_by_byte(tmp_path: Path):
    path = tmp_path / "buffer"
    assert said(list(store.findings(path, deep=False, runs=False)))[0][0] == "ok"
    assert said(list(store.findings(path, deep=False, runs=True)))[0][0] == "problem"
    with BufferDB(path, device_id="pi") as db:
        db.insert_json([b'{"source":"s","t":%d,"values":{"n":1}}' % n for n in range(50)])
        db.flush()
        db.insert_json([b'{"t":1,"stage":"decode","reason":"r"}'], table="dead_letters")
    assert [level for level, _ in said(list(store.findings(path, deep=False, runs=False)))] == [
        "ok",
        "warning",
    ]
    deep = said(list(store.findings(path, deep=True, runs=False)))
    assert "every byte" in deep[0][1]
    sealed = next((path / "readings").glob("s.*.json"))
    data = bytearray(sealed.read_bytes())
    data[len(data) // 2] ^= 4
    sealed.write_bytes(data)
    assert said(list(store.findings(path, deep=True, runs=False)))[0] == ("problem", "damaged")


def test_who_the_agent_is_is_known_by_its_process_or_its_buffer(tmp_path: Path):
    from agent.doctor.agent_process import person

    mine = person(None, tmp_path)
    assert (mine.uid, mine.name) == (os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name)
    report = SimpleNamespace(pid=os.getpid())
    assert person(report, tmp_path).gids == {os.getegid(), *os.getgroups()}


def test_no_buffer_is_missed_below_a_partition_that_is_not_mounted(tmp_path: Path):
    root = tmp_path / "machine"
    (root / "etc").mkdir(parents=True)
    (root / "proc/self").mkdir(parents=True)
    (root / "etc/fstab").write_text(f"LABEL=outstation {tmp_path} ext4 nofail 0 2\n")
    (root / "proc/self/mountinfo").write_text("22 1 179:2 / / rw - ext4 /dev/mmcblk0p2 rw\n")
    for runs in (True, False):
        ((level, what),) = said(list(store.findings(tmp_path / "buffer", deep=False, runs=runs, root=root)))
        assert level == "unknown"
        assert "is not mounted" in what


def test_what_a_configuration_has_is_counted_and_an_absent_secret_told_once(tmp_path: Path):
    path = tmp_path / "agent.toml"
    secret = tmp_path / "secret"
    path.write_text(
        device(
            counting_source(1),
            upstream("http://127.0.0.1:1/x", token={"file": str(secret)}),
        )
    )
    config = load_config(path, catalogue())
    first, absent = said(list(configuration.findings(config, NOBODY, absent_told=False)))
    assert first == ("ok", f"{path}: 1 source, 1 upstream")
    assert absent == ("problem", f"{secret}: No such file or directory")
    assert not list(configuration.findings(config, NOBODY, absent_told=True))
