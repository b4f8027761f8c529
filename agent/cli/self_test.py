"""`outstation self-test`: whether this release can go on with a device's buffer, before an upgrade changes over to it."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.self_test import SelfTestError, try_buffer
from buffer.errors import NoBuffer, StoreError

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Try, on a copy."""
    config = load(arguments.config)
    if config is None:
        return WRONG_CONFIGURATION
    try:
        readings = asyncio.run(try_buffer(config))
    except NoBuffer:
        print("self-test: there is no buffer yet, so there is nothing to try")
        return DONE
    except (SelfTestError, StoreError, OSError) as error:
        print(f"self-test: this release cannot go on with {config.buffer.path}: {error}", file=sys.stderr)
        return FAILED
    print(f"self-test: passed: {readings} readings, on a copy")
    return DONE
