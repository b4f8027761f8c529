"""What keeps a command from working on a buffer, in words."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from agent.cli.exit_status import FAILED, WRONG_CONFIGURATION
from buffer.errors import BufferLocked, NoBuffer, StoreError, UnknownFormat

if TYPE_CHECKING:
    from collections.abc import Callable


def telling(work: Callable[[], int], *, locked: str) -> int:
    """Work on a buffer; the exit status, after what kept it from being done was printed.

    Args:
        work: Gives the exit status.
        locked: What to do when another process has the buffer open.
    """
    try:
        return work()
    except (NoBuffer, UnknownFormat) as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    except BufferLocked as error:
        print(f"{error}: {locked}", file=sys.stderr)
        return FAILED
    except PermissionError as error:
        print(f"{error}: run this as the user the agent runs as, or as root", file=sys.stderr)
        return WRONG_CONFIGURATION
    except BrokenPipeError:
        raise  # whoever read our output has gone
    except (StoreError, OSError) as error:
        print(error, file=sys.stderr)
        return FAILED
