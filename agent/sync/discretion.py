"""Keeps what an upstream knows and must not tell out of everything that it says: errors go on without it.

Servers and libraries repeat what they were given. Errors end up in the log, in the status, in events and in dead letters, which are stored
and may be sent to others. So whatever leaves an upstream passes here.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agent.sync.upstream import UpstreamError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.transport.secrecy import Secrecy


@contextmanager
def discreetly(secrecy: Secrecy) -> Iterator[None]:
    """What is raised within names none of these secrets, nor does what it was raised from.

    Raises:
        UpstreamError: The same, in these words.
        RuntimeError: Instead of an unexpected error that shows a secret.
    """
    try:
        yield
    except UpstreamError as error:
        error.args = (secrecy.hide(str(error)),)
        raise error from None
    except Exception as error:
        if not _shows(error, secrecy):
            raise
        raise RuntimeError(f"{type(error).__name__}: {secrecy.hide(str(error))}") from None


def _shows(error: BaseException, secrecy: Secrecy) -> bool:
    """Whether anything that can be printed of it does."""
    printed = "".join(traceback.format_exception(error))
    return secrecy.hide(printed) != printed
