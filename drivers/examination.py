"""What an examination finds: the common form of what the examiners of all drivers, and the doctor's own checks, report."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import os


class Level(StrEnum):
    """How a finding is to be taken."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as it should, or not for long."""
    PROBLEM = "problem"
    """It does not work, or readings are at risk."""
    UNKNOWN = "unknown"
    """It could not be looked at."""


class Fault(StrEnum):
    """A fault that several checks come upon."""

    UNREACHABLE = "unreachable"
    """The other end cannot be reached; the check of the network looks for that."""
    UNREADABLE = "unreadable"
    """A secret cannot be read; the check of the configuration looks for that."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    """What it is about, in a word or two."""
    level: Level
    what: str
    """What was found."""
    remedy: str | None = None
    """What to do about it."""
    fault: Fault | None = None
    """What is behind it, where another check looks for that: its finding says the same."""


@dataclass(frozen=True, slots=True)
class Person:
    """The user that the agent runs as, or would."""

    name: str
    uid: int
    gids: frozenset[int]
    pid: int | None = None
    """The agent, when it runs."""


READ, WRITE = 4, 2


def may(person: Person, state: os.stat_result, bits: int) -> bool:
    """Whether the permissions of a file let a user read or write it."""
    if person.uid == 0:
        return True
    own = state.st_mode >> 6 if state.st_uid == person.uid else state.st_mode
    if state.st_uid != person.uid and state.st_gid in person.gids:
        own = state.st_mode >> 3
    return own & bits == bits


@dataclass(frozen=True, slots=True)
class Examined:
    """A source to be looked at, from outside of the agent."""

    source_id: str
    options: Any
    """Of its driver."""
    agent: Person


def ok(subject: str, what: str) -> Finding:
    """It is as it should be."""
    return Finding(subject, Level.OK, what)


def warning(subject: str, what: str, remedy: str) -> Finding:
    """It works, but not as it should."""
    return Finding(subject, Level.WARNING, what, remedy)


def problem(subject: str, what: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(subject, Level.PROBLEM, what, remedy)


def unreachable(subject: str, what: str, remedy: str) -> Finding:
    """The other end cannot be reached."""
    return Finding(subject, Level.PROBLEM, what, remedy, Fault.UNREACHABLE)


def unreadable(subject: str, what: str, remedy: str) -> Finding:
    """A secret cannot be read."""
    return Finding(subject, Level.PROBLEM, what, remedy, Fault.UNREADABLE)


def unknown(subject: str, what: str, remedy: str | None = None) -> Finding:
    """It could not be looked at."""
    return Finding(subject, Level.UNKNOWN, what, remedy)
