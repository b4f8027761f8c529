"""Whose session a broker keeps: it gives one to the last client that asks for it by its name, and closes the other's connection.

Two parts of one configuration that have the same client id at the same broker would take their session from each other without
end, and each would get some of the messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agent.config.model import AgentConfig, SourceConfig, UpstreamConfig

_UNKNOWN_DEVICE = "\0"
"""Stands for the device's id while that is still to be derived from the machine."""
_PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443}


class _Session(NamedTuple):
    broker: tuple[str | None, int | None]
    client_id: str


def source_client_id(device_id: str, source: SourceConfig) -> str:
    """The client id of a source that has none of its own: it stays the same over restarts."""
    return f"{device_id}-{source.id}"


def upstream_client_id(device_id: str, name: str = "mqtt") -> str:
    """The client id of an upstream that has none of its own."""
    return f"outstation-{device_id}" if name == "mqtt" else f"outstation-{device_id}-{name}"


class Clash(NamedTuple):
    """A part of a configuration that would take a session from an earlier part."""

    where: list[str | int]
    other: list[str | int]
    client_id: str
    own: bool
    """Whether the client id is written there."""


def shared_sessions(config: AgentConfig) -> list[Clash]:
    """Parts of a configuration that would take a session from an earlier part."""
    clashes = []
    first: dict[_Session, list[str | int]] = {}
    for where, session, own in _sessions(config):
        other = first.setdefault(session, where)
        if other != where:
            clashes.append(Clash([*where, "client_id"] if own else where, other, session.client_id, own))
    return clashes


def _sessions(config: AgentConfig) -> Iterator[tuple[list[str | int], _Session, bool]]:
    """Where, which session, and whether its client id is written there."""
    device_id = config.device.id or _UNKNOWN_DEVICE
    parts: Sequence[tuple[str, int, SourceConfig | UpstreamConfig, str]] = [
        *(
            ("source", place, source, source_client_id(device_id, source))
            for place, source in enumerate(config.source)
        ),
        *(
            ("upstream", place, upstream, upstream_client_id(device_id, upstream.name))
            for place, upstream in enumerate(config.upstream)
        ),
    ]
    for section, place, part, usual in parts:
        options: Any = part.options
        fields = type(options).model_fields
        if "client_id" in fields and "url" in fields:
            url = urlsplit(options.url)
            broker = url.hostname, url.port or _PORTS.get(url.scheme)
            yield (
                [section, place],
                _Session(broker, options.client_id or usual),
                options.client_id is not None,
            )
