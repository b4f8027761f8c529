"""`outstation schema`: the JSON Schema of the configuration, with which editors complete and check it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE
from agent.composition.schema import configuration_schema

if TYPE_CHECKING:
    import argparse


def main(_arguments: argparse.Namespace) -> int:
    """Print it, with what the drivers, framings, codecs and steps of this installation take."""
    print(json.dumps(configuration_schema(), indent=2, ensure_ascii=False))
    return DONE
