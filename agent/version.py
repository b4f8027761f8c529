"""The version of what is installed."""

import sys
from pathlib import Path

NOT_INSTALLED = "0+not-installed"
"""What runs from a checkout that nobody installed; a version by PEP 440, so that it compares."""
_PREFIX, _SUFFIX = "outstation-", ".dist-info"


def version() -> str:
    """The version of the installed distribution.

    It is in the name of the folder of its metadata ("Recording installed projects", packaging.python.org). What
    `importlib.metadata` loads to look there would stay in memory: 2 MB.
    """
    for folder in sys.path:
        try:
            names = [entry.name for entry in Path(folder).iterdir()]
        except OSError:  # a zip file, or nothing
            continue
        for name in names:
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                return name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return NOT_INSTALLED
