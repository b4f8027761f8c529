"""Select: which metrics a reading keeps, and under which names."""

from fnmatch import fnmatchcase
from typing import Annotated, Self, TypeVar

from pydantic import Field, model_validator

from agent.processors.reading_step import ReadingStep, StepOptions
from collectors.models import Name, Reading

_T = TypeVar("_T")
_Patterns = Annotated[list[Name], Field(min_length=1)]


class SelectOptions(StepOptions):
    """`[[pipeline.step]] processor = "select"`."""

    keep: _Patterns | None = None
    """Metrics that stay; `*` stands for any characters (`air.*`)."""
    drop: _Patterns | None = None
    """Metrics that go."""
    rename: dict[Name, Name] = Field(default_factory=dict)
    """New names of metrics that stay."""

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.keep is None and self.drop is None and not self.rename:
            raise ValueError("needs `keep`, `drop` or `rename`")
        if len(set(self.rename.values())) != len(self.rename):
            raise ValueError("`rename` gives two metrics the same name")
        return self


class Select(ReadingStep):
    """Keeps, drops and renames metrics; a reading that has none left is dropped."""

    def __init__(self, options: SelectOptions) -> None:
        super().__init__("select")
        self._options = options

    def apply(self, reading: Reading) -> Reading | None:
        """The reading with what stays.

        Raises:
            ValueError: A new name is that of another metric that stays.
        """
        rename = self._options.rename
        stays = [name for name in reading.values if self._stays(name)]
        if not stays:
            return None
        names = {name: rename.get(name, name) for name in stays}
        if len(set(names.values())) != len(names):
            taken = next(new for old, new in names.items() if old != new and new in names)
            raise ValueError(f"there is a metric {taken!r} already")
        return reading.changed(
            values=_named(reading.values, names),
            units=_named(reading.units, names),
            quality=_named(reading.quality, names),
        )

    def _stays(self, name: str) -> bool:
        keep, drop = self._options.keep, self._options.drop
        if keep is not None and not any(fnmatchcase(name, pattern) for pattern in keep):
            return False
        return drop is None or not any(fnmatchcase(name, pattern) for pattern in drop)


def _named(fields: dict[str, _T], names: dict[str, str]) -> dict[str, _T]:
    return {names[name]: value for name, value in fields.items() if name in names}
