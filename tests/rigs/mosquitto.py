"""A real Mosquitto on a free port of loopback.

    with Mosquitto() as broker:
        connect("127.0.0.1", broker.port)
        broker.kill()
        broker.start()          # the same port, the same settings, its state on disk

It starts in about 20 ms, which is why starting and stopping simply block.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from tests.rigs.certificates import Certificates

START_TIMEOUT_S = 10.0
PORT_ATTEMPTS = 5


@dataclass(frozen=True)
class BrokerSettings:
    """What tests change about the broker. The defaults are Mosquitto's own, but for the queue."""

    max_inflight_messages: int = 20
    """QoS 1 messages sent to a client and not yet acknowledged by it."""
    max_queued_messages: int = 0
    """Further ones that wait for it; 0 is no limit (Mosquitto's default is 1000, then it drops)."""
    persistence: bool = False
    """Keep sessions and messages on disk, saved at every change."""
    users: dict[str, str] = field(default_factory=dict)
    """Passwords by user name; nobody else gets in when there are any."""
    acl: str = ""
    """Text of an ACL file."""
    certificates: Certificates | None = None
    """TLS with these."""
    require_certificate: bool = False
    """Ask the client for a certificate, too."""
    lines: tuple[str, ...] = ()
    """Further lines of the configuration file, such as `max_packet_size 1000`."""


class Mosquitto:
    """A broker process; a context manager that starts and stops it.

    Attributes:
        port: Where it listens. The same after a restart.
    """

    def __init__(self, settings: BrokerSettings | None = None) -> None:
        self.settings = settings or BrokerSettings()
        self.port = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="mosquitto-")
        try:
            self.start()
        except BaseException:
            self._folder.cleanup()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        assert self._folder is not None
        self._folder.cleanup()

    @property
    def url(self) -> str:
        """Its address, without user and password."""
        scheme = "mqtt" if self.settings.certificates is None else "mqtts"
        host = "127.0.0.1" if self.settings.certificates is None else "localhost"
        return f"{scheme}://{host}:{self.port}"

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self._path / "log").read_text()

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it; returns when it accepts connections.

        Raises:
            RuntimeError: It does not start; the message has its log.
        """
        assert self._process is None, "it is running"
        for _ in range(PORT_ATTEMPTS if self.port == 0 else 1):
            port = self.port or _free_port()
            self._write_configuration(port)
            with (self._path / "log").open("ab") as log:
                self._process = subprocess.Popen(
                    ["mosquitto", "-c", str(self._path / "mosquitto.conf")], stdout=log, stderr=log
                )
            if self._wait_until_listening(port):
                self.port = port
                return
            self.kill()
        raise RuntimeError(f"mosquitto does not start: {self.log}")

    def kill(self) -> None:
        """SIGKILL: a power cut of the broker. Harmless when it does not run."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """SIGTERM: an orderly end, which saves its state when persistence is on."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_TIMEOUT_S)
            self._process = None

    def forget(self) -> None:
        """Delete what it has stored, while it does not run: a card that died with it."""
        assert self._process is None, "it is running"
        (self._path / "mosquitto.db").unlink(missing_ok=True)

    @property
    def _path(self) -> Path:
        assert self._folder is not None, "use it as a context manager"
        return Path(self._folder.name)

    def _wait_until_listening(self, port: int) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.005)
            else:
                return self._process.poll() is None
        return False

    def _write_configuration(self, port: int) -> None:
        settings = self.settings
        lines = [
            "user root",  # else it drops its rights, and cannot read the test's files
            f"listener {port} 127.0.0.1",
            f"allow_anonymous {'false' if settings.users else 'true'}",
            f"max_inflight_messages {settings.max_inflight_messages}",
            f"max_queued_messages {settings.max_queued_messages}",
            "log_type warning",
            "log_type error",
            "log_type notice",
        ]
        if settings.persistence:
            lines += [
                "persistence true",
                f"persistence_location {self._path}/",
                "autosave_on_changes true",
                "autosave_interval 1",
            ]
        if settings.users:
            passwords = self._path / "passwords"
            passwords.write_text("".join(f"{name}:{word}\n" for name, word in settings.users.items()))
            passwords.chmod(0o600)
            subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True, capture_output=True)
            lines.append(f"password_file {passwords}")
        if settings.acl:
            acl = self._path / "acl"
            acl.write_text(settings.acl)
            acl.chmod(0o600)
            lines.append(f"acl_file {acl}")
        if settings.certificates is not None:
            lines += [
                f"cafile {settings.certificates.ca_file}",
                f"certfile {settings.certificates.server_cert_file}",
                f"keyfile {settings.certificates.server_key_file}",
                f"require_certificate {'true' if settings.require_certificate else 'false'}",
            ]
        lines += settings.lines
        (self._path / "mosquitto.conf").write_text("\n".join(lines) + "\n")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
