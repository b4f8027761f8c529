"""Parts that other packages bring: drivers, framings and codecs by entry points.

A package names them in its metadata (pyproject.toml):

    [project.entry-points."outstation.codecs"]
    morse = "outstation_morse:MorseConfig"

The metadata of the installed packages is read when a name is asked for that is none of our own, or when everything
is to be listed: who uses no such part pays nothing for it. A name of our own is never taken by another package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

DRIVERS: Final = "outstation.drivers"
FRAMINGS: Final = "outstation.framings"
CODECS: Final = "outstation.codecs"


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
    except Exception as error:
        raise ExtensionError(
            f"{point.name!r} of {package_of(point)} cannot be loaded: {type(error).__name__}: {error}"
        ) from error
