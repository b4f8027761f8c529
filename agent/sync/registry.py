"""The upstreams by name. What one needs is imported when it is used, so that nobody pays for another's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.config.sessions import upstream_client_id
from agent.sync.config import (
    HttpUpstreamOptions,
    MqttUpstreamOptions,
    NatsUpstreamOptions,
    UpstreamOptions,
)
from agent.sync.formats import create_format
from agent.sync.limits import most_of
from agent.sync.packing import Packer
from agent.sync.sender import Sender

if TYPE_CHECKING:
    from agent.spine.spine import Spine
    from agent.sync.batches import B, Consumer
    from agent.sync.dead_letters import DeadLetterBox
    from agent.sync.feeder import Timing
    from agent.sync.frozen import FrozenBounds
    from agent.sync.losses import LossTeller
    from agent.sync.upstream import Upstream
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

_OPTIONS: dict[str, type[UpstreamOptions]] = {
    options.driver_name: options
    for options in (HttpUpstreamOptions, MqttUpstreamOptions, NatsUpstreamOptions)
}
_SCHEMES = {
    "http": "http",
    "https": "http",
    "mqtt": "mqtt",
    "mqtts": "mqtt",
    "ws": "mqtt",
    "wss": "mqtt",
    "nats": "nats",
    "tls": "nats",
}

UPSTREAMS = frozenset(_OPTIONS)
"""The names that `driver` of an `[[upstream]]` can have."""


def load_options_class(driver: str) -> type[UpstreamOptions]:
    """The model of an upstream's options.

    Raises:
        KeyError: There is no such upstream.
    """
    return _OPTIONS[driver]


def driver_for(url: object) -> str | None:
    """The driver of an `[[upstream]]` that names none, by how its url begins; None when that says nothing."""
    return _SCHEMES.get(url.partition("://")[0]) if isinstance(url, str) else None


def create_upstream(options: UpstreamOptions, device_id: str, clock: Clock) -> Upstream:
    """The upstream that these options describe."""
    if isinstance(options, MqttUpstreamOptions):
        from agent.sync.mqtt_upstream import MqttUpstream

        return MqttUpstream(options, device_id, clock)
    if isinstance(options, HttpUpstreamOptions):
        from agent.sync.http_upstream import HttpUpstream

        return HttpUpstream(options, clock)
    if isinstance(options, NatsUpstreamOptions):
        from agent.sync.nats_upstream import NatsUpstream

        return NatsUpstream(options, device_id)
    raise TypeError(f"no upstream takes {type(options).__name__}")


def create_sender(
    name: str,
    options: UpstreamOptions,
    device_id: str,
    consumer: Consumer[B],
    dead_letters: DeadLetterBox,
    spine: Spine,
    timing: Timing,
    losses: LossTeller | None = None,
    frozen: FrozenBounds | None = None,
) -> Sender[B]:
    """A sender that delivers a consumer's readings to the upstream that these options describe."""
    if isinstance(options, MqttUpstreamOptions) and options.client_id is None:
        options = options.model_copy(update={"client_id": upstream_client_id(device_id, name)})
    return make_sender(
        name,
        options,
        create_upstream(options, device_id, spine.clock),
        consumer,
        dead_letters,
        spine,
        timing,
        losses,
        frozen,
    )


def make_sender(
    name: str,
    options: UpstreamOptions,
    upstream: Upstream,
    consumer: Consumer[B],
    dead_letters: DeadLetterBox,
    spine: Spine,
    timing: Timing,
    losses: LossTeller | None = None,
    frozen: FrozenBounds | None = None,
) -> Sender[B]:
    """A sender that delivers to this upstream, as these options say."""
    if options.plain_over_network:
        _log.warning("sync: %s: readings and credentials go unencrypted to %s", name, upstream.name)
    made = create_format(options.format)
    return Sender(
        name,
        consumer,
        upstream,
        spine,
        packer=Packer(
            upstream.max_payload_bytes,
            made.encode,
            made.content_type,
            options.gzip,
            most_of("points", options.limits),
            made.encode_text,
        ),
        retry=options.retry.policy(),
        dead_letters=dead_letters,
        options=options.send_options(),
        timing=timing,
        losses=losses,
        policy=options.policy(),
        connect_interval_s=options.connect_interval,
        frozen=frozen,
        route=options.route(),
    )
