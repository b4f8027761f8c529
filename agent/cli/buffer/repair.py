"""`outstation buffer repair`: keeps what is intact, and the damaged files beside it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from agent.cli.buffer.verify import as_json, lines
from agent.cli.exit_status import DONE, WRONG_CONFIGURATION
from agent.cli.progress import Progress
from buffer.repair import IdentityLost, repair

if TYPE_CHECKING:
    import argparse


def run(arguments: argparse.Namespace) -> int:
    """Repair; 0 when the buffer is sound afterwards."""
    try:
        with Progress("checking") as progress:
            repaired = repair(
                str(arguments.path),
                device_id=arguments.device_id,
                machine_id=arguments.machine_id,
                progress=progress,
            )
    except IdentityLost as error:
        print(f"{error}: give --config instead of the path, so that it gets the right one", file=sys.stderr)
        return WRONG_CONFIGURATION
    if arguments.json:
        report = {"found": as_json(repaired.found), "quarantined": repaired.kept, "entered": repaired.entered}
        print(json.dumps(report, indent=2))
        return DONE
    print("\n".join(lines(repaired.found)))
    if repaired.found.sound:
        print("it is sound: nothing was changed")
        return DONE
    for name in repaired.kept:
        print(f"kept in the quarantine: {arguments.path}/.quarantine/{name}")
    print(f"repaired: {repaired.entered:,} undelivered readings entered in the loss ledger")
    return DONE
