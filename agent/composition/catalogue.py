"""Everything that a configuration can name; nothing of it is imported before it is named."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.config import Catalogue, Kind
from agent.processors import registry as processors
from agent.sync import registry as upstreams
from drivers import registry as drivers
from drivers.codecs import CODECS
from drivers.extensions import extensions, package_of
from drivers.framing import FRAMINGS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from drivers.codecs import CodecConfig
    from drivers.extensions import Names
    from drivers.framing import FramingConfig


def catalogue() -> Catalogue:
    """The names, and how to get the model of a named part's options."""
    return Catalogue(
        sources=Kind("driver", drivers.NAMES, drivers.load_config_class, drivers.load_presets),
        processors=Kind("processor", processors.NAMES, processors.load_config_class),
        upstreams=Kind("upstream driver", upstreams.UPSTREAMS, upstreams.load_options_class),
        driver_for=upstreams.driver_for,
    )


@dataclass(frozen=True, slots=True)
class Part:
    """A driver, framing, codec or step, as it is listed."""

    kind: str
    name: str
    summary: str
    example: str
    """TOML; empty for one that cannot be used."""
    package: str | None = None
    """Which other package brings it."""
    problem: str | None = None
    """Why it cannot be used."""


def list_parts() -> Iterator[Part]:
    """Every driver, framing, codec and step that there is, those of other packages too; imports each."""
    yield from _listed("driver", drivers.NAMES, _driver)
    yield from _listed("framing", FRAMINGS.names, FRAMINGS.find)
    yield from _listed("codec", CODECS.names, CODECS.find)
    yield from _listed("step", processors.NAMES, _processor)


def _driver(name: str) -> drivers.Driver:
    drivers.load_config_class(name)
    return drivers.driver(name)


def _processor(name: str) -> processors.Processor:
    processors.load_config_class(name)
    return processors.processor(name)


def _listed(
    kind: str,
    names: Names,
    find: Callable[[str], drivers.Driver | processors.Processor | type[FramingConfig | CodecConfig]],
) -> Iterator[Part]:
    brought = extensions(names.group)
    for name in names:
        package = package_of(brought[name]) if name in brought and name not in names.own else None
        try:
            part = find(name)
        except ValueError as error:
            yield Part(kind, name, "", "", package, str(error))
        else:
            yield Part(kind, name, part.summary, part.example.strip("\n"), package)
