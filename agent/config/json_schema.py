"""The JSON Schema of one part's options, as editors of TOML understand it.

Taplo, and with it VS Code's "Even Better TOML", completes through `properties`, `anyOf` and `$ref`; it follows no `if`, knows no
discriminator, and drops what stands beside a `$ref`. So a model's own references are written out here. TOML has no null.
"""

from __future__ import annotations

import ast
import inspect
import sys
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic.json_schema import GenerateJsonSchema

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Schema = dict[str, Any]

_BOUNDS: Final = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
_DROPPED: Final = frozenset({"$defs", "discriminator", "format", "title", *_BOUNDS})
ANYTHING: Final[Mapping[str, Any]] = {"type": "object", "additionalProperties": True}
"""What is known of the options of a part that does not say more."""


def schema_of(model: type[BaseModel], choices: Mapping[str, Schema]) -> Schema:
    """The schema of a table, with the docstrings of its keys as their descriptions.

    Args:
        model: What checks it.
        choices: What stands where a model says `x-choice`: parts that are chosen by name, such as codecs.
    """
    try:
        raw = model.model_json_schema(schema_generator=_Generator)
    except (PydanticInvalidForJsonSchema, PydanticUserError):  # of another package, by its own validators
        return dict(ANYTHING)
    made: Schema = _Cleaning(raw.get("$defs", {}), choices).clean(raw)
    return made


class _Generator(GenerateJsonSchema):
    """Takes descriptions from docstrings below the fields."""

    ignored_warning_kinds: Any = frozenset({"non-serializable-default", "skipped-choice"})

    def model_schema(self, schema: Any) -> Schema:
        """The schema of a model."""
        made = super().model_schema(schema)
        texts = descriptions(schema["cls"])
        for name, key in made.get("properties", {}).items():
            if name in texts:
                key.setdefault("description", texts[name])
        made.pop("description", None)  # of the model: people write keys
        return made


@cache
def descriptions(model: type[BaseModel]) -> dict[str, str]:
    """What the docstrings below its fields say, by field; those of its bases as well.

    Read from the source, and only for this: pydantic's own way would read it whenever the class is made.
    """
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, BaseModel) and base is not BaseModel:
            found |= _class_docs(base.__module__).get(base.__qualname__, {})
    return found


@cache
def _class_docs(module: str) -> dict[str, dict[str, str]]:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, KeyError, TypeError, SyntaxError):  # installed without sources
        return {}
    return {node.name: dict(_field_docs(node)) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def _field_docs(node: ast.ClassDef) -> list[tuple[str, str]]:
    found = []
    for field, text in zip(node.body, node.body[1:], strict=False):
        match field, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                found.append((name, " ".join(inspect.cleandoc(said).split())))
            case _:
                pass
    return found


class _Cleaning:
    """Rewrites what pydantic makes."""

    def __init__(self, definitions: Mapping[str, Schema], choices: Mapping[str, Schema]) -> None:
        self._definitions = definitions
        self._choices = choices

    def clean(self, schema: Any) -> Any:
        if isinstance(schema, list):
            return [self.clean(each) for each in schema]
        if not isinstance(schema, dict):
            return schema
        if "$ref" in schema:
            beside = {key: value for key, value in schema.items() if key != "$ref"}
            return self.clean({**self._definitions[schema["$ref"].rpartition("/")[2]], **beside})
        if "x-choice" in schema:
            chosen = self._choices[schema["x-choice"]]
            return {**chosen, **{key: schema[key] for key in ("description",) if key in schema}}
        made = {key: value for key, value in schema.items() if key not in _DROPPED}
        if "properties" in made:
            made["properties"] = {key: self.clean(value) for key, value in made["properties"].items()}
        for key in ("additionalProperties", "items", "prefixItems"):
            if key in made:
                made[key] = self.clean(made[key])
        if "prefixItems" in made:  # as draft 7 writes it
            made["items"] = made.pop("prefixItems")
        if made.get("default", ...) is None:
            del made["default"]
        bounds = {_BOUNDS[key]: schema[key] for key in _BOUNDS if key in schema}
        return self._branches(made, bounds)

    def _branches(self, made: Schema, bounds: Schema) -> Schema:
        """The alternatives: flat, without null, and with the limits of their numbers."""
        alternatives = made.pop("anyOf", None) or made.pop("oneOf", None)
        if alternatives is None:
            return {**made, **bounds} if made.get("type") in {"number", "integer"} else made
        flat = [
            branch
            for each in map(self.clean, alternatives)
            for branch in (each["anyOf"] if set(each) == {"anyOf"} else [each])
            if branch != {"type": "null"}
        ]
        flat = [{**each, **bounds} if each.get("type") in {"number", "integer"} else each for each in flat]
        return {**flat[0], **made} if len(flat) == 1 else {**made, "anyOf": flat}


def closed(properties: Schema, required: list[str], **further: Any) -> Schema:
    """A table with these keys and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(required),
        "additionalProperties": False,
        **further,
    }


def alternatives(tables: Mapping[str, Schema], what: str, reference: Callable[[str], str]) -> Schema:
    """One of several parts: its name, if it needs no options, or a table with the name as `type`.

    Args:
        tables: What each takes, by name.
        what: What such a part is called.
        reference: Where the table of one is written down.
    """
    bare = [name for name, table in tables.items() if set(table.get("required", ())) <= {"type"}]
    named = {"type": "string", "enum": bare, "description": f"The {what}, without options."}
    return {"anyOf": [named, *({"$ref": reference(name)} for name in tables)]}
