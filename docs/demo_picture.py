"""Runs the demo and draws its last view, with the verdict, into docs/demo.svg (for README)."""

import asyncio
import re
import tempfile
from pathlib import Path

from rich.console import Console

from agent.demo.story import Story
from agent.demo.view import LiveView

_PICTURE = Path(__file__).parent / "demo.svg"


def main() -> None:
    """Run, draw, save."""
    console = Console(record=True, width=92, force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        with LiveView(console) as view:
            verdict = asyncio.run(Story(Path(folder), view).run())
        # Only what stands on the screen at the end: the frames before it are overwritten there.
        console = Console(record=True, width=92, force_terminal=True)
        console.print(view.last)
        console.print(f"\nPROVEN: {verdict.line()}", style="bold green", highlight=False)
    assert verdict.proven, verdict
    picture = console.export_svg(title="./install.sh demo")
    # rich asks for its font from the network; the reader's own will do.
    _PICTURE.write_text(re.sub(r"@font-face \{.*?\}|<!-- Generated.*?-->", "", picture, flags=re.DOTALL))


if __name__ == "__main__":
    main()
