"""The configuration: is it right, what would be better, who may read its secrets."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from agent.config.advice import advice_of
from agent.status.text import counted
from drivers.examination import READ, may, ok, problem, unknown, warning

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agent.config import AgentConfig, ConfigurationError
    from drivers.examination import Finding, Person


def wrong(error: ConfigurationError) -> list[Finding]:
    """What is wrong with it."""
    remedy = "mend it; `outstation check` says when it is right"
    return [problem("configuration", str(each), remedy) for each in error.problems]


def findings(config: AgentConfig, agent: Person, *, absent_told: bool) -> Iterator[Finding]:
    """What is to be said of one that is right. Asks the system: blocks.

    Args:
        config: The configuration.
        agent: Who must be able to read its secrets.
        absent_told: Secrets that are not there are told already: it is not quite right.
    """
    names = ", ".join(str(file) for file in config.files)
    if not absent_told:
        there_are = f"{counted(len(config.source), 'source')}, {counted(len(config.upstream), 'upstream')}"
        yield ok("configuration", f"{names}: {there_are}")
    for source_id, advice in advice_of(config):
        yield warning(source_id, advice, "change the configuration")
    if not config.upstream:
        yield warning("upstream", "there is none: readings are kept here only", "add an [[upstream]]")
    for file in config.secret_files:
        yield from _secret(file, agent, absent_told=absent_told)


def _secret(file: Path, agent: Person, *, absent_told: bool) -> Iterator[Finding]:
    """Whether the agent may read a secret, and not everybody."""
    try:
        state = file.stat()
    except PermissionError:
        yield unknown("secrets", f"{file} may not be looked at by this user", "run this as root")
        return
    except OSError as error:
        remedy = "put the secret there, or correct the configuration"
        if not absent_told:
            yield problem("secrets", f"{file}: {error.strerror or error}", remedy)
        return
    if state.st_mode & (stat.S_IROTH | stat.S_IWOTH):
        yield warning("secrets", f"everybody on this machine may read {file}", f"sudo chmod o= {file}")
    if not may(agent, state, READ):
        remedy = f"sudo chown {agent.name} {file}, or give it as a systemd credential"
        yield problem("secrets", f"the user {agent.name} may not read {file}", remedy)
