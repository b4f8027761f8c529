"""TLS that a running agent did not need when it began: OpenSSL comes with the change of its configuration."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from pathlib import Path

from tests.rigs import cloud
from tests.rigs.certificates import make_certificates
from tests.rigs.configuration import counting_source, device, mqtt_source, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.programs import AgentProgram, Program, free_port, until


def loaded_openssl(pid: int) -> bool:
    return "libcrypto" in Path(f"/proc/{pid}/maps").read_text()


async def test_encryption_can_be_added_while_it_runs(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "pki")
    ca_file, port = str(certificates.ca_file), free_port()
    database = tmp_path / "cloud.sqlite"
    receive = ["receive", "--from", f"https://localhost:{port}", "--into", f"sqlite:///{database}"]
    tls = ["--tls-cert", certificates.server_cert_file, "--tls-key", certificates.server_key_file]
    with (
        Mosquitto() as plain,
        Mosquitto(BrokerSettings(certificates=certificates)) as secure,
        Program(*receive, *tls, log=tmp_path / "receiver.log") as receiver,
        AgentProgram(tmp_path, device(counting_source(20), mqtt_source(plain.url, "hall"))) as agent,
    ):
        receiver.start()
        agent.start()
        await agent.until(lambda report: report.buffer.stored and report.sources[1].state == "connected")
        assert not loaded_openssl(agent.pid)

        agent.config_file.write_text(
            device(
                counting_source(20),
                mqtt_source(plain.url, "hall"),
                mqtt_source(secure.url, "cellar", ca_file=ca_file),
                upstream(f"https://localhost:{port}/readings", ca_file=ca_file, ack="receiver"),
            )
        )
        agent.signal(signal.SIGHUP)
        await agent.until(lambda report: [part.state for part in report.sources] == ["connected"] * 3)
        command = ["mosquitto_pub", "-h", "localhost", "-p", str(secure.port), "--cafile", ca_file, "-q", "1"]
        message = [*command, "-t", "sensors/a", "-m", '{"t": 1}']
        await asyncio.to_thread(subprocess.run, message, check=True)
        await agent.until(lambda report: report.upstreams[0].delivered and report.sources[2].frames)
        await until(lambda: {"counter", "cellar"} <= sources(database), "both sources arrive")
        assert loaded_openssl(agent.pid)


def sources(database: Path) -> set[str]:
    return {row.source for row in cloud.rows(database)} if cloud.count(database) else set()
