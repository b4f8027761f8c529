"""The upstreams by name. What one needs is imported when it is used, so that nobody pays for another's."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.config.sessions import upstream_client_id
from agent.sync.config import HttpUpstreamOptions, MqttUpstreamOptions, UpstreamOptions
from agent.sync.limits import most_of
from agent.sync.packing import Packer
from agent.sync.sender import Sender

if TYPE_CHECKING:
    from agent.spine.spine import Spine
    from agent.sync.batches import B, Consumer
    from agent.sync.dead_letters import DeadLetterBox
    from agent.sync.feeder import Timing
    from agent.sync.losses import LossTeller
    from agent.sync.upstream import Upstream
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

_OPTIONS: dict[str, type[UpstreamOptions]] = {"http": HttpUpstreamOptions, "mqtt": MqttUpstreamOptions}

UPSTREAMS = frozenset(_OPTIONS)
"""The names that `driver` of an `[[upstream]]` can have."""


def load_options_class(driver: str) -> type[UpstreamOptions]:
    """The model of an upstream's options.

    Raises:
        KeyError: There is no such upstream.
    """
    return _OPTIONS[driver]


def create_upstream(options: UpstreamOptions, device_id: str, clock: Clock) -> Upstream:
    """The upstream that these options describe."""
    if isinstance(options, MqttUpstreamOptions):
        from agent.sync.mqtt_upstream import MqttUpstream

        return MqttUpstream(options, device_id, clock)
    if isinstance(options, HttpUpstreamOptions):
        from agent.sync.http_upstream import HttpUpstream

        return HttpUpstream(options, clock)
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
) -> Sender[B]:
    """A sender that delivers a consumer's readings to the upstream that these options describe."""
    if isinstance(options, MqttUpstreamOptions) and options.client_id is None:
        options = options.model_copy(update={"client_id": upstream_client_id(device_id, name)})
    upstream = create_upstream(options, device_id, spine.clock)
    if options.plain_over_network:
        _log.warning("sync: %s: readings and credentials go unencrypted to %s", name, upstream.name)
    return Sender(
        name,
        consumer,
        upstream,
        spine,
        packer=Packer(
            upstream.max_payload_bytes, gzip=options.gzip, points_max=most_of("points", options.limits)
        ),
        retry=options.retry.policy(),
        dead_letters=dead_letters,
        options=options.send_options(),
        timing=timing,
        losses=losses,
        policy=options.policy(),
        route=options.route(),
    )
