"""The agent itself: does it run, what does it say, and which user is it."""

from __future__ import annotations

import os
import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from agent.status.opening import ask_even_while_opening
from agent.status.socket import AgentNotRunningError
from drivers.examination import Person, ok, problem, unknown, warning

if TYPE_CHECKING:
    from agent.status.report import StatusReport
    from drivers.examination import Finding

_QUIET = ("everything is delivered", "delivering", "no upstream is configured")


async def ask(socket: Path) -> StatusReport | None:
    """What the agent says; None when none answers."""
    try:
        return await ask_even_while_opening(socket)
    except AgentNotRunningError:
        return None


def findings(socket: Path, report: StatusReport | None) -> list[Finding]:
    """What that means."""
    if report is None:
        try:
            is_there = socket.exists()
        except PermissionError:
            return [unknown("status", f"{socket} may not be asked by this user", "run this as root")]
        if is_there and not os.access(socket, os.W_OK):
            return [unknown("status", f"{socket} may not be asked by this user", "run this as root")]
        remedy = "sudo systemctl enable --now outstation; `journalctl -u outstation` says why it does not run"
        return [warning("status", f"no agent answers on {socket}", remedy)]
    found = []
    summary = report.summary()
    if summary.startswith(_QUIET):
        found.append(ok("status", f"runs (pid {report.pid}, version {report.version}): {summary}"))
    else:
        found.append(warning("status", summary, "`outstation status` says more"))
    if report.configuration.refused:
        found.append(
            problem(
                "status", "it runs with an older configuration: the changed one was refused", "mend the file"
            )
        )
    if report.buffer.fault:
        found.append(problem("status", f"the buffer: {report.buffer.fault}", "see to the disk that it is on"))
    return found


def person(report: StatusReport | None, buffer: Path) -> Person:
    """The user of the agent: that of its process, else the one whose the buffer is, else this one."""
    pid = None if report is None else report.pid
    if report is not None:
        try:
            return _of_process(report.pid)
        except (OSError, ValueError, KeyError):
            pass  # in another container
    try:
        uid = buffer.stat().st_uid
        user = pwd.getpwuid(uid)
    except (OSError, KeyError):
        uid = os.geteuid()
        gids = {os.getegid(), *os.getgroups()}
        return Person(_name(uid), uid, frozenset(gids), pid)
    gids = set(os.getgrouplist(user.pw_name, user.pw_gid))
    return Person(user.pw_name, uid, frozenset(gids), pid)


def _of_process(pid: int) -> Person:
    fields: dict[str, list[str]] = {}
    for line in Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines():
        name, _, values = line.partition(":")
        fields[name] = values.split()
    uid = int(fields["Uid"][1])
    gids = {int(fields["Gid"][1]), *map(int, fields["Groups"])}
    return Person(_name(uid), uid, frozenset(gids), pid)


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
