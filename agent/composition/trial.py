"""A dry run of a configuration's pipelines: the real way in, with nothing at its end."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from agent.composition.parts import BACKEND_ID
from agent.composition.processing import FixedTime, Processing
from agent.dead_letters import TABLE as DEAD_LETTERS
from agent.dead_letters import Letter
from agent.spine.factories import CollectionLayerFactory, StorageLayerFactory
from agent.spine.spine import open_spine
from agent.trial.clock import TrialClock
from agent.trial.inputs import Item
from agent.trial.nowhere import Nowhere
from agent.trial.outcome import Outcome
from agent.trial.trace import TraceLog, TracingManager
from buffer.export import Selected
from buffer.inspection import Inspection
from collectors.enums import ClockQuality
from collectors.metadata_keys import UP_NS
from collectors.models import CollectedData, Reading

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from agent.config import AgentConfig

_LOOK_S: Final = 1.0
"""How often the running agent lets go what need not wait any longer."""
_SETTLE_ITEMS: Final = 500


_TIME: Final = FixedTime(1, ClockQuality.SYNCED)
"""As if everything had come just now, in the first boot, with a clock that is right."""


class Trial:
    """A dry run. Made by `open_trial`.

    Args:
        config: Whose pipelines are tried.
        processing: The way into them.
        clock: Shows what the data says.
        log: What happened in the pipelines.
        letters: The dead letters that came out.
        steps: The ids of the steps of each pipeline.
    """

    def __init__(
        self,
        config: AgentConfig,
        processing: Processing,
        clock: TrialClock,
        log: TraceLog,
        letters: list[dict[str, Any]],
        steps: Mapping[str, Sequence[str]],
    ) -> None:
        self._steps = steps
        self._sources = {source.id for source in config.source}
        self._processing = processing
        self._clock = clock
        self._log = log
        self._letters = letters
        self._looked_s = 0.0
        self._taken = 0
        self._t = 0.0
        self.strangers: set[str] = set()
        """Sources of readings that are in no configuration: these were left out."""

    def require_step(self, wanted: str) -> None:
        """Refuse a step, by its number or id, that no pipeline has.

        Raises:
            ValueError: None has.
        """
        if any(wanted in steps or wanted in map(str, range(len(steps))) for steps in self._steps.values()):
            return
        pipelines = (
            f"{pipeline_id}: " + ", ".join(f"{number} {step}" for number, step in enumerate(steps))
            for pipeline_id, steps in self._steps.items()
        )
        raise ValueError(f"there is no step {wanted!r}; there are in {'; in '.join(pipelines)}")

    async def take(self, item: Item) -> list[Outcome]:
        """Feed one item; what came of it, after what came because time had passed."""
        what = item.what
        if isinstance(what, Reading):
            if what.source not in self._sources:
                self.strangers.add(what.source)
                return []
            self._clock.set(what.t, what.boot, what.up)
            self._t = what.t
        elif isinstance(what, Letter):
            self._t = what.t
            self._clock.set(what.t)
        else:
            self._t = what.timestamp.timestamp()
            self._clock.set(self._t, _TIME.boot, what.metadata.get(UP_NS, 0))
        outcomes = []
        if self._clock.monotonic_s() - self._looked_s >= _LOOK_S:
            self._looked_s = self._clock.monotonic_s()
            outcomes = await self._look()
        if isinstance(what, CollectedData):
            await self._processing.take_in(what)
        elif isinstance(what, Letter):
            reason = await self._processing.take_letter(what)
            if reason is not None:
                self._letters.append({**what.document, "reason": reason})
        else:
            await self._processing.take_stored(what)
        outcomes.append(self._outcome(item))
        self._taken += 1
        if self._taken % _SETTLE_ITEMS == 0:
            await self._processing.commit()
        return outcomes

    async def end(self) -> list[Outcome]:
        """The input has ended: what steps still hold comes out, as if nothing came for as long as they wait."""
        self._clock.end()
        return await self._look(is_end=True)

    async def _look(self, *, is_end: bool = False) -> list[Outcome]:
        await self._processing.look()
        return [self._outcome(None, is_end=is_end)] if self._log.passages or self._letters else []

    def _outcome(self, item: Item | None, *, is_end: bool = False) -> Outcome:
        outcome = Outcome(item, self._t, tuple(self._log.passages), tuple(self._letters), is_end)
        self._log.passages.clear()
        self._letters.clear()
        return outcome


@asynccontextmanager
async def open_trial(config: AgentConfig) -> AsyncIterator[Trial]:
    """The pipelines of a configuration, ready to be fed. Nothing is opened, stored or sent."""
    clock, log = TrialClock(), TraceLog()
    letters: list[dict[str, Any]] = []

    def on_append(table: str, documents: Sequence[bytes]) -> None:
        if table == DEAD_LETTERS:
            letters.extend(map(from_json, documents))

    async with open_spine(clock=clock) as spine:
        storage = StorageLayerFactory(spine).create_storage_manager()
        nowhere = Nowhere(BACKEND_ID, on_append)
        await storage.register_backend(nowhere, {})
        manager = TracingManager(spine, log)
        processing = Processing(
            CollectionLayerFactory(spine).create_metadata_parser(),
            manager,
            storage,
            nowhere,
            _TIME,
            spine,
        )
        await processing.begin(config)
        yield Trial(config, processing, clock, log, letters, manager.steps)


def stored_items(
    config: AgentConfig, *, source: str | None, since_s: float | None, until_s: float | None
) -> Iterator[Item]:
    """The readings in the buffer, beside an agent that may be running.

    Raises:
        NoBuffer: There is none.
        OSError: It cannot be read.
        DiskFault: Likewise.
    """
    selected = Selected(Inspection(config.buffer.path), source=source, since_s=since_s, until_s=until_s)
    for record_id, document in selected:
        yield Item(Reading.from_document(document), f"reading {record_id}")
