"""Parts that a configuration chooses by name, with options of their own: framings and codecs.

framing = "cobs"                                  # with its defaults
framing = { type = "cobs", crc = "crc32" }        # with options; also as a table [source.framing]
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

from collectors.suggestion import nearest
from drivers.extensions import ExtensionError, Names, extensions, load

if TYPE_CHECKING:
    from collections.abc import Mapping


class Options(BaseModel):
    """What a part with a name takes. Subclasses give `type` their name as its default."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    type: str


T = TypeVar("T", bound=Options)


class Choices(Generic[T]):
    """The parts of one kind. One is imported when it is first asked for.

    Args:
        what: What a part of this kind is called.
        own: Our own parts, each as `module:class`, by name.
        group: The group of entry points by which other packages bring theirs.
        kind: What every part is.
    """

    def __init__(self, what: str, own: Mapping[str, str], group: str, kind: type[T]) -> None:
        self.own = own
        self.group = group
        self.names = Names(own, group)
        """The names of all parts, those of other packages too."""
        self._what = what
        self._kind = kind
        self._loaded: dict[str, type[T]] = {}

    def find(self, name: str) -> type[T]:
        """The class of the part with this name.

        Raises:
            ValueError: There is none, or it cannot be used; the message says what would be right.
        """
        found = self._loaded.get(name)
        if found is None:
            found = self._loaded[name] = self._load(name)
        return found

    def choose(self, value: Any, context: Any = None) -> T:
        """The part that a configuration names, with its options; `context` is that of the configuration's validation.

        Raises:
            ValueError: There is no such part, or its options are wrong; a ValidationError names the places.
        """
        if isinstance(value, self._kind):
            return value
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, dict):
            raise ValueError(f'should be the name of a {self._what}, or a table such as {{ type = "..." }}')
        name = value.get("type")
        if not isinstance(name, str):
            raise ValueError(f"should say as `type` which {self._what} it is: there are {self._listed()}")
        model = self.find(name)
        try:
            return model.model_validate(value, context=context)
        except ValidationError as error:
            raise _with_hints(error, model) from None

    def _load(self, name: str) -> type[T]:
        target = self.own.get(name)
        if target is not None:
            module, _, attribute = target.partition(":")
            return cast("type[T]", getattr(import_module(module), attribute))
        point = extensions(self.group).get(name)
        if point is None:
            meant = nearest(name, self.names)
            hint = f"; did you mean `{meant}`?" if meant is not None else ""
            raise ValueError(f"there is no {self._what} {name!r}; there are {self._listed()}{hint}")
        found = load(point)
        if not (isinstance(found, type) and issubclass(found, self._kind)):
            raise ExtensionError(f"{name!r} ({point.value}) is no subclass of {self._kind.__qualname__}")
        for said in ("summary", "example"):
            if not isinstance(getattr(found, said, None), str):
                raise ExtensionError(
                    f"{name!r} ({point.value}) has no `{said}`, a text that people are shown"
                )
        return found

    def _listed(self) -> str:
        return ", ".join(self.names)


_KNOWN: Final = frozenset(get_args(core_schema.ErrorType)) - {"assertion_error", "value_error"}
"""The kinds of problems that pydantic can find by itself."""


def _with_hints(error: ValidationError, model: type[BaseModel]) -> ValidationError:
    """The same problems; an unknown key's says which keys there are, for whoever sees only the whole's model."""
    details: list[InitErrorDetails] = []
    for problem in error.errors(include_url=False):
        kind: str | PydanticCustomError
        if problem["type"] == "extra_forbidden" and len(problem["loc"]) == 1:
            meant = nearest(str(problem["loc"][0]), model.model_fields)
            hint = (
                f"did you mean `{meant}`?"
                if meant is not None
                else f"the keys are {', '.join(sorted(model.model_fields))}"
            )
            kind = PydanticCustomError("unknown_key", "is not a key here; {hint}", {"hint": hint})
        elif problem["type"] in _KNOWN:
            kind = problem["type"]
        else:
            kind = PydanticCustomError("wrong", "{why}", {"why": problem["msg"]})
        details.append(
            InitErrorDetails(
                type=kind, loc=problem["loc"], input=problem["input"], ctx=problem.get("ctx", {})
            )
        )
    return ValidationError.from_exception_data(model.__name__, details)
