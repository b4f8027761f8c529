"""`outstation run`: the agent itself."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING

from agent import logs
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.runtime import StartError, run_agent

if TYPE_CHECKING:
    import argparse

_log = logging.getLogger(__name__)


def main(arguments: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT."""
    config = load(arguments.config)
    if config is None:
        return WRONG_CONFIGURATION
    logs.configure(arguments.log_level or config.agent.log_level)
    try:
        asyncio.run(run_agent(config))
    except StartError as error:
        print(error, file=sys.stderr)
        return FAILED
    return DONE
