"""`outstation drivers`: lists the drivers, framings, codecs and steps of pipelines, each with an example of its configuration."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.composition import list_parts

if TYPE_CHECKING:
    import argparse

    from agent.composition import Part

_HEADINGS = {
    "driver": "Drivers: where readings come from",
    "framing": "Framings: how frames are found in the bytes of a serial source",
    "codec": "Codecs: what a frame or message says",
    "step": "Steps of pipelines: what happens to readings on the device",
}


def main(arguments: argparse.Namespace) -> int:
    """List all, or those with one name; fails when one that another package brings cannot be used."""
    found = [part for part in list_parts() if arguments.name in {None, part.name}]
    if not found:
        print(
            f"there is no driver, framing, codec or step {arguments.name!r}; `outstation drivers` lists all"
        )
        return WRONG_CONFIGURATION
    blocks = []
    for kind, heading in _HEADINGS.items():
        listed = [_block(part) for part in found if part.kind == kind]
        if listed:
            blocks += [heading, *listed]
    print("\n\n".join(blocks))
    return FAILED if any(part.problem for part in found) else DONE


def _block(part: Part) -> str:
    brought = f" ({part.package})" if part.package else ""
    if part.problem is not None:
        return f"  {part.name}{brought}: CANNOT BE USED: {part.problem}"
    example = textwrap.indent(part.example, " " * 6)
    return f"  {part.name}{brought}: {part.summary}\n\n{example}"
