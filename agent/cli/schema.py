"""`outstation schema`: the JSON Schema of the configuration, with which editors complete and check it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED
from agent.composition.schema import configuration_schema

if TYPE_CHECKING:
    import argparse


def main(arguments: argparse.Namespace) -> int:
    """Print it, or write it, with what the drivers, framings, codecs and steps of this installation take."""
    text = json.dumps(configuration_schema(), indent=2, ensure_ascii=False) + "\n"
    if arguments.output is None:
        print(text, end="")
        return DONE
    try:
        arguments.output.write_text(text, encoding="utf-8")
    except OSError as error:
        print(f"{arguments.output} cannot be written: {error.strerror}", file=sys.stderr)
        return FAILED
    return DONE
