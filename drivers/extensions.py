"""Parts that other packages bring: drivers, framings and codecs by entry points.

A package names them in its metadata (pyproject.toml):

    [project.entry-points."outstation.codecs"]
    morse = "outstation_morse:MorseConfig"

The metadata of the installed packages is read when a name is asked for that is none of our own, or when everything
is to be listed: who uses no such part pays nothing for it. A name of our own is never taken by another package.
"""

from __future__ import annotations

from collections.abc import Collection
from importlib import import_module
from typing import TYPE_CHECKING, Final, TypeVar

from collectors.suggestion import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from importlib.metadata import EntryPoint

DRIVERS: Final = "outstation.drivers"
FRAMINGS: Final = "outstation.framings"
CODECS: Final = "outstation.codecs"
PROCESSORS: Final = "outstation.processors"

T = TypeVar("T")


BROKEN: Final = (Exception, SystemExit)
"""What code of another package may raise when it is imported: a script ends the program."""


class ExtensionError(ValueError):
    """A part of another package that cannot be used; the message names the package and says why."""


def extensions(group: str) -> dict[str, EntryPoint]:
    """What other packages bring of one kind, by name; nothing of it is imported."""
    from importlib.metadata import entry_points  # takes 10 ms and more

    return {point.name: point for point in entry_points(group=group)}


def package_of(point: EntryPoint) -> str:
    """The package that brings a part, with its version."""
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else point.value


def load(point: EntryPoint) -> object:
    """What an entry point names.

    Raises:
        ExtensionError: It cannot be imported.
    """
    try:
        return point.load()
    except BROKEN as error:
        raise ExtensionError(
            f"{point.name!r} of {package_of(point)} cannot be loaded: {type(error).__name__}: {error}"
        ) from error


class Names(Collection[str]):
    """The names of our own parts and of those of other packages, which are looked for only when that decides something.

    Args:
        own: Our own.
        group: The group of entry points by which other packages bring theirs.
    """

    def __init__(self, own: Collection[str], group: str) -> None:
        self.own = own
        self.group = group

    def __contains__(self, name: object) -> bool:
        return name in self.own or name in extensions(self.group)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.own, *extensions(self.group)}))

    def __len__(self) -> int:
        return len(list(iter(self)))


def find_part(name: str, own: Mapping[str, T], group: str, what: str) -> T:
    """The part with a name: one of our own, or else one that another package brings, of the same class.

    Args:
        name: Its name.
        own: Our own, by name; there is at least one.
        group: The group of entry points by which other packages bring theirs.
        what: What it is called in messages, such as "driver".

    Raises:
        ValueError: There is none, or it cannot be used; the message says what would be right.
    """
    found = own.get(name)
    if found is not None:
        return found
    point = extensions(group).get(name)
    if point is None:
        names = Names(own, group)
        meant = nearest(name, names)
        hint = f"did you mean {meant!r}? " if meant is not None else ""
        raise ValueError(f"no {what} is named {name!r}: {hint}there are {', '.join(names)}")
    brought = load(point)
    wanted = type(next(iter(own.values())))
    if not isinstance(brought, wanted):
        raise ExtensionError(
            f"{name!r} of {package_of(point)} is no {wanted.__module__}.{wanted.__qualname__}"
        )
    return brought


def load_target(target: str, name: str, own: Collection[str], what: str) -> object:
    """What `module:attribute` names, for a part; what another package spoils is told as its fault.

    Raises:
        ExtensionError: It cannot be imported, and is none of our own.
    """
    module, _, attribute = target.partition(":")
    if name in own:
        return getattr(import_module(module), attribute)
    try:
        return getattr(import_module(module), attribute)
    except BROKEN as error:
        raise ExtensionError(
            f"the {what} {name!r} cannot be loaded: {target}: {type(error).__name__}: {error}"
        ) from error
