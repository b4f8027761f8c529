"""The version of what is installed."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as _installed_version

NOT_INSTALLED = "0+not-installed"
"""What runs from a checkout that nobody installed; a version by PEP 440, so that it compares."""


def version() -> str:
    """The version of the installed distribution."""
    try:
        return _installed_version("outstation")
    except PackageNotFoundError:
        return NOT_INSTALLED
