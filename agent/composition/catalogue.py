"""Everything that a configuration can name; nothing of it is imported before it is named."""

from __future__ import annotations

from agent.config import Catalogue, Kind
from agent.processors import registry as processors
from agent.sync import registry as upstreams
from drivers import registry as drivers


def catalogue() -> Catalogue:
    """The names, and how to get the model of a named part's options."""
    return Catalogue(
        sources=Kind("driver", frozenset(drivers.DRIVERS), drivers.load_config_class, drivers.load_presets),
        processors=Kind("processor", processors.processor_names(), processors.load_config_class),
        upstreams=Kind("upstream driver", upstreams.UPSTREAMS, upstreams.load_options_class),
    )
