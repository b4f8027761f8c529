"""The questions that a first configuration is made from, one after the other."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agent.cli.init.answers import CREDENTIAL, Answers, simulated
from agent.cli.init.dialog import ask, ask_secret, choose, confirm
from agent.composition import catalogue
from agent.composition.discovery import scouts
from agent.config import ConfigurationError, load_config
from agent.discover.look import look_around
from agent.discover.text import table, toml
from drivers.discovery import Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

_UPSTREAMS = {"mqtt": "mqtt", "mqtts": "mqtt", "ws": "mqtt", "wss": "mqtt", "http": "http", "https": "http"}
_SOURCES = ("a serial port", "an MQTT broker", "a simulated sensor, to try it out")


def wrong(section: str, text: str) -> str | None:
    """What is wrong with a section of a configuration, in one line; None when nothing is."""
    source = "" if section == "source" else toml([simulated()])
    with tempfile.TemporaryDirectory(prefix="outstation-") as folder:
        path = Path(folder) / "outstation.toml"
        path.write_text(f"{text}\n{source}", encoding="utf-8")
        try:
            load_config(path, catalogue())
        except ConfigurationError as error:
            return "; ".join(f"{problem.message}" for problem in error.problems)
    return None


def upstream_for(url: str, **further: Any) -> dict[str, Any]:
    """The keys of an upstream, whose driver its URL says."""
    driver = _UPSTREAMS.get(urlsplit(url).scheme, "mqtt")
    return {
        "driver": driver,
        "url": url,
        **{name: value for name, value in further.items() if value is not None},
    }


def port_source(port: str, source_id: str = "serial") -> Finding:
    """A serial port that was not listened at."""
    return Finding(
        f"{port}: its baud rate and format are the usual ones; `outstation read {source_id}` shows whether they are right",
        {"id": source_id, "driver": "serial", "port": port, "baudrate": 115200, "codec": "json"},
    )


def broker_source(url: str, topics: Sequence[str], source_id: str = "broker") -> Finding:
    """A broker that was not listened at."""
    return Finding(url, {"id": source_id, "driver": "mqtt", "url": url, "topics": list(topics)})


def ask_all(
    default_id: str, ports: Sequence[str], buffer_path: str, listen_s: float
) -> tuple[Answers, str | None]:
    """The answers, and the password or token for the upstream.

    Args:
        default_id: The id that the device has when none is set.
        ports: Serial ports that there are.
        buffer_path: Where the buffer usually is.
        listen_s: How long to listen at ports.
    """
    answers = Answers()
    given = ask(
        "Id of this device",
        default_id,
        wrong=lambda answer: wrong("device", "[device]\n" + table({"id": answer})),
    )
    answers.device_id = None if given == default_id else given
    answers.sources = _ask_for_sources(ports, listen_s)
    answers.upstream, secret = _ask_for_upstream()
    answers.buffer_path = ask(
        "Folder of the buffer, on a disk that stays",
        buffer_path,
        wrong=lambda answer: wrong("buffer", "[buffer]\n" + table({"path": answer})),
    )
    quota = ask(
        "How much it may take, such as 2 GB",
        "all but a reserve",
        wrong=lambda answer: (
            None
            if answer == "all but a reserve"
            else wrong("buffer", "[buffer]\n" + table({"quota": answer}))
        ),
    )
    answers.quota = None if quota == "all but a reserve" else quota
    return answers, secret


def _ask_for_sources(ports: Sequence[str], listen_s: float) -> list[Finding]:
    sources: list[Finding] = []
    if ports and confirm(f"Listen at {', '.join(ports)} for {listen_s:g} s, to see what is there?"):
        sources += _take(_listen(ports, listen_s))
    while (number := choose("Where do readings come from?", _SOURCES, "that is all")) is not None:
        if number == 0:
            sources += _ask_for_port(listen_s)
        elif number == 1:
            sources.append(_ask_for_broker())
        else:
            sources.append(simulated())
    if not sources:
        print("  There must be one source: a simulated sensor is written, to be replaced by yours.")
    return sources or [simulated()]


def _ask_for_port(listen_s: float) -> list[Finding]:
    port = ask(
        "Serial port, best one below /dev/serial/by-id",
        wrong=lambda answer: wrong("source", toml([port_source(answer)])),
    )
    if not port.startswith("socket:") and confirm(f"Listen there for {listen_s:g} s?"):
        taken = _take(_listen([port], listen_s))
        if taken:
            return taken
        print("  It is written with the usual settings.")
    return [port_source(port)]


def _ask_for_broker() -> Finding:
    url = ask(
        "URL of the broker",
        "mqtt://localhost:1883",
        wrong=lambda answer: wrong("source", toml([broker_source(answer, ["#"])])),
    )
    topics = ask(
        "Topics, with commas between them",
        "sensors/#",
        wrong=lambda answer: wrong("source", toml([broker_source(url, _split(answer))])),
    )
    return broker_source(url, _split(topics))


def _split(topics: str) -> list[str]:
    return [topic.strip() for topic in topics.split(",") if topic.strip()]


def _listen(ports: Sequence[str], seconds: float) -> list[Finding]:
    places = scouts(brokers=[], ports=ports, adapter=None, username=None, password_file=None)
    return asyncio.run(look_around(places, seconds, lambda _done, _all: None))


def _take(findings: Sequence[Finding]) -> list[Finding]:
    """Those that are wanted."""
    taken = []
    for finding in findings:
        print(f"  {finding.what}")
        if finding.source is not None and confirm("  Collect from it?"):
            taken.append(finding)
    return taken


def _ask_for_upstream() -> tuple[dict[str, Any] | None, str | None]:
    url = ask(
        "Where do readings go? A URL, such as mqtts://broker.example.com:8883 or https://host/readings; Enter for nowhere yet",
        wrong=lambda answer: (
            (answer and wrong("upstream", "[[upstream]]\n" + table(upstream_for(answer)))) or None
        ),
    )
    if not url:
        return None, None
    upstream = upstream_for(url)
    ours = confirm("Is `outstation receive` at the other end?")
    upstream["ack"] = "receiver" if ours else "broker" if upstream["driver"] == "mqtt" else "server"
    if username := ask("User name there; Enter for none"):
        upstream["username"] = username
        secret = ask_secret("Password (not shown; it is put into a file of its own)")
        if secret:
            upstream["password"] = {"credential": CREDENTIAL}
        return upstream, secret or None
    if upstream["driver"] == "http" and (secret := ask_secret("Token (not shown; Enter for none)")):
        upstream["token"] = {"credential": CREDENTIAL}
        return upstream, secret
    return upstream, None
