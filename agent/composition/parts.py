"""Single parts of a configuration, for the agent and for commands that need only one."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from agent.config.sessions import source_client_id
from agent.identity import default_device_id, machine_fingerprint
from buffer import TinyDBBuffer
from drivers import registry as drivers
from drivers.codecs import codec

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from agent.config import AgentConfig, BufferConfig, SourceConfig
    from collectors.clock import Clock
    from collectors.interfaces import IDataSource
    from drivers.codecs import Codec

BACKEND_ID = "buffer"


def device_id_of(config: AgentConfig) -> str:
    """The configured device id, or the machine's own."""
    return config.device.id or default_device_id()


def socket_path(config: AgentConfig) -> Path:
    """Where the agent's socket is: as configured, else beside the buffer's tables."""
    return config.socket


def create_source(
    config: AgentConfig, source: SourceConfig, clock: Clock, *, onlooker: bool = False
) -> IDataSource:
    """The data source of one [[source]], not yet connected.

    Args:
        config: The whole configuration.
        source: The source's own.
        clock: Stamps what arrives.
        onlooker: Only look: take nothing away from an agent that runs with the same configuration. A
            broker's session is the agent's, so an onlooker subscribes without one.
    """
    options = source.options
    if "client_id" in type(options).model_fields:
        # A session that lives through restarts belongs to a client id that does, too.
        client_id = options.client_id or source_client_id(device_id_of(config), source)
        update: dict[str, object] = {"client_id": client_id}
        if onlooker:
            update = {"client_id": f"{client_id}-{secrets.token_hex(4)}", "qos": 0, "session_expiry": 0}
        options = options.model_copy(update=update)
    source_class = drivers.load_source_class(source.driver)
    return source_class(source.id, options, data_format=source.codec.type, clock=clock)


def registration_of(source: SourceConfig) -> dict[str, object]:
    """How a source is registered: a stream that ends was lost, and what else its driver asks for."""
    return {
        "when_stream_ends": "reconnect",
        "silent_after_s": source.silent_after,
        **drivers.driver(source.driver).registration,
    }


def find_codec(config: AgentConfig) -> Callable[[str, str], Codec]:
    """Finds the codec for the data of a source: as it is configured, or, for data of another format, without options."""
    configured = {source.id: source.codec for source in config.source}

    def find(source_id: str, data_format: str) -> Codec:
        chosen = configured.get(source_id)
        return chosen.codec() if chosen is not None and chosen.type == data_format else codec(data_format)

    return find


def read_values(codec: Codec) -> Callable[[bytes], list[dict[str, bool | int | float | str]]]:
    """What a frame says, without the codec's own model around it."""
    return lambda raw: [decoded.values for decoded in codec(raw)]


def open_buffer(config: AgentConfig, *, clock_trusted: Callable[[], bool] = lambda: True) -> TinyDBBuffer:
    """The buffer of a configuration, not yet connected.

    Args:
        config: The whole configuration.
        clock_trusted: Whether the wall clock is known to be right.
    """
    return TinyDBBuffer(
        BACKEND_ID,
        config.buffer.path,
        device_id=device_id_of(config),
        machine_id=machine_fingerprint(),
        clock_trusted=clock_trusted,
        **buffer_limits(config.buffer),
    )


def buffer_limits(buffer: BufferConfig) -> dict[str, Any]:
    """Those options of a buffer that can be changed while it is open."""
    return {
        "sync": buffer.sync,
        "window_s": buffer.window,
        "keep_delivered_s": buffer.keep_delivered,
        "quota_bytes": buffer.quota,
        "reserve_bytes": buffer.reserve,
        "max_age_s": buffer.max_age,
        "card_endurance_bytes": buffer.card_endurance,
        "full": buffer.full.model_dump(),
    }
