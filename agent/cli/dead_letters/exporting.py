"""`outstation dead-letters export`: JSON lines, `{"id", "time", "letter"}`, the letter as it is stored."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from agent.cli.dead_letters.looking import letters
from agent.cli.exit_status import DONE, WRONG_CONFIGURATION
from agent.cli.new_file import new_file
from agent.status.text import counted
from buffer.export import time_text

if TYPE_CHECKING:
    import argparse

    from agent.config import AgentConfig
    from agent.dead_letters import Selection


def run(arguments: argparse.Namespace, config: AgentConfig, selection: Selection) -> int:
    """Export them."""
    count = 0
    try:
        with new_file(arguments.output) as output:
            for found in letters(config, selection):
                letter = found.letter
                line = {"id": letter.letter_id, "time": time_text(letter.t), "letter": letter.document}
                output.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
                count += 1
    except FileExistsError:
        print(f"{arguments.output} is there already: give a new name", file=sys.stderr)
        return WRONG_CONFIGURATION
    if arguments.output is not None:
        print(f"{counted(count, 'dead letter')} in {arguments.output}", file=sys.stderr)
    return DONE
