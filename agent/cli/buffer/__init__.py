"""`outstation buffer`: what is in a buffer, whether it is sound, and how to get it out.

All but `repair` only look: without a lock, beside a running agent.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from agent.cli.buffer_trouble import telling
from agent.cli.exit_status import WRONG_CONFIGURATION
from agent.cli.loading import load
from agent.composition import device_id_of
from agent.identity import machine_fingerprint

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Run one of its commands."""
    if not _placed(arguments):
        return WRONG_CONFIGURATION
    command = import_module(f"agent.cli.buffer.{arguments.action}")
    return telling(
        lambda: int(command.run(arguments)),
        locked="stop the agent first (`sudo systemctl stop outstation`, or end `outstation run`)",
    )


def _placed(arguments: argparse.Namespace) -> bool:
    """Find out which buffer is meant: the one whose directory is given, else the configured one."""
    arguments.device_id = arguments.machine_id = None
    if arguments.path is not None:
        return True
    config = load(arguments.config)
    if config is None:
        return False
    arguments.path = config.buffer.path
    arguments.device_id, arguments.machine_id = device_id_of(config), machine_fingerprint()
    return True
