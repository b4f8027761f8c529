"""What the demo shows while it runs: a live view on a terminal, else a line a second."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console, RenderableType
    from rich.live import Live

_EVENTS_SHOWN = 8
_BACKLOGS_MAX = 1000
_BARS_SHOWN = 56
_BARS = "▁▂▃▄▅▆▇█"


@dataclass(slots=True)
class Scene:
    """What can be seen at one moment."""

    elapsed_s: float = 0.0
    total_s: float = 0.0
    link_up: bool = True
    agent: str = "starting"
    rate: float = 0.0
    """Readings accepted a second."""
    accepted: int = 0
    delivered: int = 0
    backlog: int = 0
    backlogs: deque[int] = field(default_factory=lambda: deque(maxlen=_BACKLOGS_MAX))
    events: deque[str] = field(default_factory=lambda: deque(maxlen=_EVENTS_SHOWN))


class View(Protocol):
    """Shows scenes; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, scene: Scene) -> None:
        """Show a scene."""
        ...

    def event(self, scene: Scene, text: str) -> None:
        """Tell something that happened."""
        ...


def _stamped(scene: Scene, text: str) -> str:
    return f"{scene.elapsed_s:5.1f} s  {text}"


class PlainView:
    """Lines: one an event, one a second."""

    def __init__(self) -> None:
        self._second = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to put back."""

    def show(self, scene: Scene) -> None:
        """A line, if a second has passed."""
        if int(scene.elapsed_s) != self._second:
            self._second = int(scene.elapsed_s)
            link = "up  " if scene.link_up else "DOWN"
            text = f"link {link}  agent {scene.agent:<8} {scene.rate:5.0f} readings/s  accepted {scene.accepted:6}"
            print(
                _stamped(scene, f"{text}  backlog {scene.backlog:6}  delivered {scene.delivered:6}"),
                flush=True,
            )

    def event(self, scene: Scene, text: str) -> None:
        """A line."""
        print(_stamped(scene, f"* {text}"), flush=True)


def bars(backlogs: Sequence[int]) -> str:
    """All of them from the beginning, in bars; each bar is the highest of as many as share it."""
    highest = max(backlogs, default=0) or 1
    share = -(-len(backlogs) // _BARS_SHOWN) or 1
    groups = [backlogs[first : first + share] for first in range(0, len(backlogs), share)]
    return "".join(_BARS[(len(_BARS) - 1) * max(group) // highest] for group in groups)


class LiveView:
    """A panel on a terminal, drawn by rich.

    Args:
        console: Where it is drawn; None is standard output.
    """

    def __init__(self, console: Console | None = None) -> None:
        from rich.live import Live

        self._live: Live = Live(console=console, refresh_per_second=8, transient=False)
        self.last: RenderableType = ""
        """What was drawn last."""

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, scene: Scene) -> None:
        """Draw the panel."""
        self.last = self._panel(scene)
        self._live.update(self.last)

    def event(self, scene: Scene, text: str) -> None:
        """Add to the events of the panel."""
        scene.events.append(_stamped(scene, text))
        self.show(scene)

    @staticmethod
    def _panel(scene: Scene) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        link = Text("up", "bold green") if scene.link_up else Text("CUT", "bold red")
        agent = Text(scene.agent, "bold green" if scene.agent == "running" else "bold red")
        table = Table.grid(padding=(0, 2))
        table.add_row("link to the cloud", link)
        table.add_row("agent", agent)
        table.add_row("accepted", Text(f"{scene.accepted:>7}   {scene.rate:.0f} readings/s"))
        table.add_row("delivered", Text(f"{scene.delivered:>7}"))
        table.add_row("backlog", Text(f"{scene.backlog:>7}   ") + Text(bars(list(scene.backlogs)), "yellow"))
        progress = ProgressBar(total=scene.total_s, completed=min(scene.elapsed_s, scene.total_s))
        events = Text("\n".join(scene.events))
        return Panel(Group(table, "", events, "", progress), title="Outstation demo", width=90)


def choose_view(*, plain: bool, terminal: bool) -> View:
    """The live view where there is a terminal and rich, else lines."""
    if plain or not terminal:
        return PlainView()
    try:
        return LiveView()
    except ImportError:
        return PlainView()
