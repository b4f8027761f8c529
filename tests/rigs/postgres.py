"""A real PostgreSQL in a folder of its own, on a free port of loopback.

    with Postgres() as server:
        url = server.new_database()
        server.kill()
        server.start()          # the same port, its state on disk

`postgres` refuses to run as root, so there it runs as nobody. The cluster is made in under two seconds.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psycopg

if TYPE_CHECKING:
    from types import TracebackType

START_TIMEOUT_S = 20.0
MEMORY_BYTES_MIN = 1 << 30
SUPERUSER = "outstation"
_SETTINGS = """
unix_socket_directories = ''
shared_buffers = 64MB
max_wal_size = 1GB
log_min_messages = warning
recovery_init_sync_method = syncfs
"""


def _programs() -> Path:
    """Where initdb and postgres are: on PATH, or where Debian has them."""
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    assert versions, "no PostgreSQL here: install the Debian package postgresql"
    return versions[-1]


def _memory() -> Path | None:
    """A file system in memory with room; None where there is none, as in many a container."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and shutil.disk_usage(memory).free > MEMORY_BYTES_MIN
    return memory if roomy else None


class Postgres:
    """A server process; a context manager that makes its cluster, starts and stops it.

    Args:
        settings: Further lines of postgresql.conf.
        parent: The folder for its own; memory where there is enough, since a SIGKILL spares that as it spares a disk.
    """

    def __init__(self, settings: str = "", parent: Path | None = None) -> None:
        self.port = 0
        self._parent = parent or _memory()
        self._settings = settings
        self._programs = _programs()
        self._folder = Path()
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        self._user = "nobody" if os.geteuid() == 0 else None

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="postgres-", dir=self._parent))
        try:
            if self._user is not None:
                os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
            self._run(
                "initdb",
                "-D",
                "data",
                "-U",
                SUPERUSER,
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C",
                "--no-sync",
            )
            self.start()
        except BaseException:
            shutil.rmtree(self._folder)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return (self._folder / "log").read_text()

    def start(self) -> None:
        """Start it; returns when it answers."""
        assert self._process is None, "it is running"
        self.port = self.port or _free_port()
        with (self._folder / "data" / "postgresql.conf").open("a") as file:
            file.write(f"{_SETTINGS}{self._settings}\nport = {self.port}\nlisten_addresses = '127.0.0.1'\n")
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", "data"],
                **self._as_user(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
            except psycopg.OperationalError:
                assert self._process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """SIGKILL to the server and all its processes: a power cut. Harmless when it does not run."""
        if self._process is not None:
            pid = self._process.pid
            os.kill(pid, signal.SIGSTOP)  # it makes no further ones
            # Each of its processes leads a group of its own, and would answer until it misses its parent.
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            for each in (*map(int, children), pid):
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def url(self, database: str, *, port: int | None = None) -> str:
        """The address of a database; through a proxy with the port of it."""
        return f"postgresql://{SUPERUSER}@127.0.0.1:{port or self.port}/{database}"

    def new_database(self) -> str:
        """Make an empty database; its name."""
        name = f"test_{next(self._numbers)}"
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return name

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            **self._as_user(),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def _as_user(self) -> dict[str, object]:
        where: dict[str, object] = {"cwd": self._folder}
        if self._user is not None:
            where |= {"user": self._user, "group": pwd.getpwnam(self._user).pw_gid, "extra_groups": []}
        return where


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
