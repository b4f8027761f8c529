"""The version of what is installed."""

from importlib.metadata import version as _installed_version


def version() -> str:
    """The version of the installed distribution."""
    return _installed_version("outstation")
