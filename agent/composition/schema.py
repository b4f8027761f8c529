"""The JSON Schema of a whole configuration: of every driver, framing, codec, step and upstream that there is here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from agent.composition.catalogue import catalogue
from agent.config import (
    AgentSection,
    BufferConfig,
    DeviceConfig,
    PipelineConfig,
    SourceConfig,
    StepConfig,
    UpstreamConfig,
)
from agent.config.json_schema import ANYTHING, Schema, alternatives, closed, schema_of
from agent.processors import registry as processors
from drivers import registry as drivers
from drivers.codecs import CODECS
from drivers.framing import FRAMINGS

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydantic import BaseModel

    from agent.config import Kind
    from drivers.choice import Choices

_DRAFT: Final = "http://json-schema.org/draft-07/schema#"  # what every editor knows


def configuration_schema() -> Schema:
    """The schema of one file; imports every part, those of other packages too.

    A file of `conf.d` is checked against it as well, so nothing need be in it.
    """
    kinds = catalogue()
    definitions: dict[str, Schema] = {}
    choices = {
        "codec": _choice("codec", CODECS, definitions),
        "framing": _choice("framing", FRAMINGS, definitions),
    }
    pipeline = schema_of(PipelineConfig, choices)
    steps = _parts(
        kinds.processors, "processor", StepConfig, choices, lambda name: processors.processor(name).summary
    )
    pipeline["properties"]["step"] = _list(steps, "What happens to its readings, one step after the other.")
    pipeline["required"] = []  # an unnamed one is called by its place
    sections = {
        "device": (schema_of(DeviceConfig, choices), "Which device this is."),
        "source": (
            _list(
                _parts(
                    kinds.sources, "driver", SourceConfig, choices, lambda name: drivers.driver(name).summary
                )
            ),
            "Where readings come from.",
        ),
        "pipeline": (_list(pipeline), "What happens to readings on the device."),
        "buffer": (schema_of(BufferConfig, choices), "Where and how readings are kept."),
        "upstream": (
            _list(
                _parts(
                    kinds.upstreams,
                    "driver",
                    UpstreamConfig,
                    choices,
                    "over {}".format,
                    optional=("name", "driver"),  # the url names the driver, too
                )
            ),
            "Where readings go.",
        ),
        "agent": (schema_of(AgentSection, choices), "The program itself."),
    }
    properties = {name: {**schema, "description": text} for name, (schema, text) in sections.items()}
    whole = closed(properties, [], title="Configuration of Outstation", definitions=definitions)
    return {"$schema": _DRAFT, **whole}


def _list(item: Schema, description: str | None = None) -> Schema:
    made: Schema = {"type": "array", "items": item}
    return made if description is None else {**made, "description": description}


def _choice(what: str, parts: Choices[Any], definitions: dict[str, Schema]) -> Schema:
    """A codec or framing: what each takes is written down once, and referred to."""
    tables = {name: _table(parts, name) for name in parts.names}
    definitions.update({f"{what}-{name}": table for name, table in tables.items()})
    return alternatives(tables, what, lambda name: f"#/definitions/{what}-{name}")


def _table(parts: Choices[Any], name: str) -> Schema:
    try:
        model = parts.find(name)
    except ValueError:  # another package brings it, and does not work
        own, summary = dict(ANYTHING), "cannot be used"
    else:
        own, summary = schema_of(model, {}), model.summary
    properties = {**own.get("properties", {}), "type": {"const": name, "description": summary}}
    return {**own, "properties": properties, "required": sorted({"type", *own.get("required", ())})}


def _parts(
    kind: Kind,
    key: str,
    shared: type[BaseModel],
    choices: dict[str, Schema],
    summary_of: Callable[[str], str],
    optional: tuple[str, ...] = (),
) -> Schema:
    """Tables of one kind: what all have, and by the part that `key` names what it has."""
    common = schema_of(shared, choices)
    common["properties"].pop("options")
    branches = []
    for name in sorted(kind.names):
        try:
            own, summary = schema_of(kind.options_of(name), choices), summary_of(name)
        except ValueError:  # another package brings it, and does not work
            own, summary = dict(ANYTHING), "cannot be used"
        properties = {
            **common["properties"],
            **own.get("properties", {}),
            key: {"const": name, "description": summary},
        }
        required = ({*common.get("required", ()), *own.get("required", ()), key}) - {*optional}
        filled = {each for preset in kind.presets_of(name).values() for each in preset} & required
        branch = closed(properties, sorted(required - filled))
        if filled:
            branch["anyOf"] = [{"required": ["preset"]}, {"required": sorted(filled)}]
        if own.get("additionalProperties", False) is not False:
            branch["additionalProperties"] = True
        branches.append(branch)
    return {"anyOf": branches}
