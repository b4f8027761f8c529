"""`outstation demo`: two minutes' worth of a device's life in half a minute, and the proof."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.demo.story import DemoError, Story
from agent.demo.view import choose_view

if TYPE_CHECKING:
    import argparse

    from agent.demo.verdict import Verdict


def main(arguments: argparse.Namespace) -> int:
    """Run the demo; 0 only if nothing was lost, doubled, disordered or changed."""
    with ExitStack() as stack:
        folder = arguments.folder
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outstation-demo-")))
        elif folder.exists() and any(folder.iterdir()):
            print(f"{folder} is not empty; give a new folder", file=sys.stderr)
            return WRONG_CONFIGURATION
        folder.mkdir(parents=True, exist_ok=True)
        view = stack.enter_context(choose_view(plain=arguments.plain, terminal=sys.stdout.isatty()))
        try:
            verdict = asyncio.run(Story(folder.resolve(), view).run())
        except DemoError as error:
            print(f"the demo failed: {error}", file=sys.stderr)
            return FAILED
    print("\n".join(_closing(verdict, arguments.folder)))
    return DONE if verdict.proven else FAILED


def _closing(verdict: Verdict, folder: Path | None) -> list[str]:
    sources = ", ".join(f"{source} {count}" for source, count in sorted(verdict.by_source.items()))
    lines = ["", f"accepted by the device: {sources}"]
    if folder is not None:
        lines.append(f"the device's buffer, the receiver's database and the logs are in {folder}")
    lines.append(f"{'PROVEN' if verdict.proven else 'FAILED'}: {verdict.line()}")
    return lines
