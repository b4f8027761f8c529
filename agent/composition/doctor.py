"""Everything that `outstation doctor` looks at, for a configuration."""

from __future__ import annotations

import asyncio
import os
from functools import partial
from typing import TYPE_CHECKING

from agent.composition.catalogue import catalogue
from agent.config import ConfigurationError, load_config, socket_named_in
from agent.config.model import BufferConfig
from agent.doctor import agent_process, clock, configuration, disk, network, power, store
from agent.doctor.once import NETWORK, told_once
from agent.doctor.rounds import Check, examine
from agent.sync import examination as upstreams
from drivers import registry as drivers
from drivers.examination import Examined, unknown
from drivers.transport.apart import run_apart
from drivers.transport.credentials import TlsFiles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from agent.config import AgentConfig, SourceConfig, UpstreamConfig
    from agent.doctor.rounds import Report
    from agent.status.report import StatusReport
    from drivers.examination import Finding, Person


async def look(path: Path, *, deep: bool = False) -> list[Report]:
    """Look at everything; each report is what one check found, the same for several but once.

    Args:
        path: The configuration.
        deep: Check every byte of the buffer.
    """
    try:
        config = await asyncio.to_thread(load_config, path, catalogue())
    except ConfigurationError as error:
        socket = await asyncio.to_thread(socket_named_in, path)
        report = None if socket is None else await agent_process.ask(socket)
        found = configuration.wrong(error)
        told = [] if socket is None or report is None else agent_process.findings(socket, report)
        checks = [_check("configuration", lambda: [*found, *told]), *_machine(BufferConfig())]
        return told_once(await examine(checks))
    report = await agent_process.ask(config.socket)
    agent = await asyncio.to_thread(agent_process.person, report, config.buffer.path)
    return told_once(await examine(list(_checks(path, config, report, agent, deep=deep))))


def _checks(
    path: Path, config: AgentConfig, report: StatusReport | None, agent: Person, *, deep: bool
) -> Iterator[Check]:
    yield _check("configuration", partial(_configuration, path, config, agent))
    yield _check("agent", partial(agent_process.findings, config.socket, report))
    for source in config.source:
        yield from _of_source(source, agent)
    for upstream in config.upstream:
        yield from _of_upstream(upstream)
    yield from _machine(config.buffer)
    runs = report is not None and bool(report.buffer.store_id)  # else it is still to be opened
    yield _check("buffer", partial(store.findings, config.buffer.path, deep=deep, runs=runs), endless=deep)


def _configuration(path: Path, config: AgentConfig, agent: Person) -> list[Finding]:
    told: list[Finding] = []
    if os.geteuid() in {0, agent.uid}:  # others may not see its secrets, which the agent may
        try:
            load_config(path, catalogue(), check_files=True)
        except ConfigurationError as error:
            told = configuration.wrong(error)
    return told + list(configuration.findings(config, agent, absent_told=bool(told)))


def _machine(buffer: BufferConfig) -> Iterator[Check]:
    """What does not depend on sources and upstreams."""
    yield _check("clock", clock.findings)
    yield _check("disk", partial(disk.findings, buffer))
    yield _check("power", power.findings)


def _of_source(source: SourceConfig, agent: Person) -> Iterator[Check]:
    url = getattr(source.options, "url", None)
    if url is not None:
        options = source.options
        ca_file, cert_file, key = (
            getattr(options, name, None) for name in ("ca_file", "cert_file", "key")
        )  # of other packages' drivers, too
        tls = TlsFiles(ca_file, cert_file, key)
        yield Check(NETWORK, source.id, partial(network.findings, network.Place(source.id, url, tls)))
    yield Check("source", source.id, partial(_examine_source, source, agent))


async def _examine_source(source: SourceConfig, agent: Person) -> Sequence[Finding]:
    try:
        examiner = await run_apart("import", lambda: drivers.load_examiner(source.driver))
    except (ImportError, ValueError) as error:
        return [unknown(source.id, f"the driver {source.driver} cannot be asked: {error}")]
    if examiner is None:
        return []
    return await examiner(Examined(source.id, source.options, agent))


def _of_upstream(upstream: UpstreamConfig) -> Iterator[Check]:
    options = upstream.options
    tls = options.certificates()
    for server in options.servers():
        yield Check(
            NETWORK, upstream.name, partial(network.findings, network.Place(upstream.name, server, tls))
        )
    yield Check("upstream", upstream.name, partial(upstreams.examine, upstream))


def _check(name: str, look: Callable[[], Iterable[Finding]], *, endless: bool = False) -> Check:
    """A check that blocks."""

    def apart() -> Awaitable[list[Finding]]:
        return run_apart(f"doctor-{name}", lambda: list(look()))

    return Check(name, name, apart, None) if endless else Check(name, name, apart)
