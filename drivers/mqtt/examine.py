"""Logs in at the broker of a source, beside the agent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.examination import unreadable
from drivers.transport.apart import run_apart
from drivers.transport.log_in import log_in

if TYPE_CHECKING:
    from drivers.examination import Examined, Finding


async def examine(examined: Examined) -> list[Finding]:
    """Look at one source's broker."""
    config = examined.options.model_copy(update={"client_id": "outstation-doctor"})
    try:
        options = await run_apart("secret", config.options)
    except (OSError, ValueError) as error:
        remedy = "run this as the user the agent runs as, or as root; else correct `password`"
        return [unreadable(examined.source_id, f"the password cannot be read: {error}", remedy)]
    return await log_in(
        examined.source_id, options, keeps_messages=config.qos == 1 and config.session_expiry > 0
    )
