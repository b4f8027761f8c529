"""The way from a source to the buffer in a running agent: the intake, the pipelines, and what these hold back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from agent.composition.parts import BACKEND_ID, find_codec
from agent.composition.pipelines import Pipelines, pipeline_id_of
from agent.dead_letters import FRAMING, UnreadableLetterError
from agent.held import TABLE as HELD
from agent.held import Held
from agent.intake import Intake
from agent.processors.decode import NAME as DECODE
from agent.processors.decode import Decode
from agent.spine.errors import STORAGE
from agent.supervisor import supervise
from buffer import StoreError
from collectors import metadata_keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from agent.config import AgentConfig, SourceConfig
    from agent.dead_letters import Letter
    from agent.spine.processing import ProcessingManager
    from agent.spine.spine import Spine
    from agent.spine.storage import StorageManager
    from collectors.enums import ClockQuality
    from collectors.interfaces import IMetadataParser
    from collectors.models import CollectedData, Reading

_LET_GO_S = 1.0
_CHANGE_TIMEOUT_S = 5.0


class Keeping(Protocol):
    """What is needed of the buffer, beside storing."""

    def append(self, documents: Sequence[bytes], *, table: str = ...) -> range:
        """Take records; their ids, not yet durable. Raises BufferFull."""
        ...

    async def room(self, *, table: str = ...) -> None:
        """Wait until `append` takes something for this table."""
        ...

    async def wait_durable(self, last_id: int, *, table: str = ...) -> None:
        """Wait until everything up to an id is durable."""
        ...

    def durable_id(self, table: str = ...) -> int:
        """Everything up to this id is durable."""
        ...

    def state(self, name: str) -> Any:
        """A small durable table."""
        ...

    async def visit_recent(
        self, n: int, visit: Callable[[int, dict[str, Any]], None], *, table: str = ...
    ) -> None:
        """Call `visit(id, document)` in a thread for each of the newest records, oldest first."""
        ...

    async def flush(self) -> None:
        """Make everything durable."""
        ...


class Watch(Protocol):
    """How good the clock is."""

    def quality(self) -> ClockQuality:
        """Of a reading that is taken now."""
        ...


class Time(Protocol):
    """What is known about time."""

    @property
    def boot(self) -> int:
        """Which boot of the device this is; 0: unknown."""
        ...

    @property
    def watch(self) -> Watch:
        """How good the clock is."""
        ...


@dataclass(frozen=True, slots=True)
class FixedTime:
    """What is known about time where nothing is collected."""

    boot: int
    said: ClockQuality

    @property
    def watch(self) -> FixedTime:
        """Itself."""
        return self

    def quality(self) -> ClockQuality:
        """How good the clock is."""
        return self.said


class Processing:
    """Takes in what sources deliver.

    Args:
        parser: Reads metadata.
        manager: Has the pipelines.
        storage: Takes readings.
        buffer: The buffer.
        time: Which boot this is, and how good the clock.
        spine: Errors, tasks, clocks.

    Attributes:
        intake: The sink of every source.
    """

    def __init__(
        self,
        parser: IMetadataParser,
        manager: ProcessingManager,
        storage: StorageManager,
        buffer: Keeping,
        time: Time,
        spine: Spine,
    ) -> None:
        self._manager = manager
        self._storage = storage
        self._buffer = buffer
        self._time = time
        self._spine = spine
        self._held = Held(buffer, self._submit_held, spine.clock.monotonic_s)
        self._pipelines: Pipelines | None = None
        self._configured: dict[str, SourceConfig] = {}
        self._pipeline_of: dict[str, str] = {}
        self._holding: dict[str, frozenset[str]] = {}
        self.intake = Intake(
            parser=parser,
            processing=manager,
            storage=storage,
            buffer=buffer,
            backend_id=BACKEND_ID,
            pipeline_of=self._pipeline_of.__getitem__,
            held=self._held,
            holding=self._holding,
            clock=spine.clock,
            taken=lambda: (time.boot, time.watch.quality()),
        )

    async def take_in(self, data: CollectedData) -> str | None:
        """Take one frame or message; why it was garbage, if it was."""
        return await self.intake(data)

    async def _submit_held(self, documents: list[bytes]) -> range:
        return await self._storage.submit(BACKEND_ID, documents, source="pipelines", vouched=True)

    async def begin(self, config: AgentConfig) -> None:
        """Make the pipelines, and go on with what they held when the program ended."""
        pipelines = await self._make(config)
        self._put(config, pipelines)
        try:
            await self._held.restore(self._buffer.state(HELD), pipelines.holders(self.intake.take_late))
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="restore_held", critical=True)

    def run(self) -> None:
        """Acknowledge, and let go what is held, in the background."""
        supervise(self._spine, "acknowledge", BACKEND_ID, self.intake.acknowledgements.run, layer=STORAGE)
        supervise(self._spine, "hold", BACKEND_ID, self._held.run, layer=STORAGE)
        supervise(self._spine, "let_go", BACKEND_ID, self._let_go, layer=STORAGE)

    async def load_redeliveries(self) -> None:
        """Learn what may be delivered again. A disk that cannot be read costs duplicates, no start."""
        try:
            await self.intake.load()
        except (StoreError, OSError) as error:
            await self._spine.errors.report(error, layer=STORAGE, operation="load_origins", critical=True)

    async def apply(self, config: AgentConfig) -> None:
        """Go on with the pipelines of another configuration.

        Steps of pipelines that did not change go on with what they remember. What other steps hold is let go.

        Raises:
            TimeoutError: Something is in process for too long, on a disk that hangs: all is as it was.
        """
        pipelines = await self._make(config)
        async with self.intake.paused(), asyncio.timeout(_CHANGE_TIMEOUT_S):
            await self._held.change(
                pipelines.holders(self.intake.take_late), partial(self._put, config, pipelines)
            )

    async def _make(self, config: AgentConfig) -> Pipelines:
        tags = {source.id: source.tags for source in config.source if source.tags}
        own_time = frozenset(source.id for source in config.source if source.time == "arrival")
        decode = Decode(
            find_codec(config),
            boot=self._time.boot,
            clock_quality=self._time.watch.quality,
            source_tags=tags,
            own_time=own_time,
        )
        # In a thread, since it imports the steps.
        pipelines = await asyncio.to_thread(Pipelines, config, self._spine, decode, self._pipelines)
        await pipelines.make()
        return pipelines

    def _put(self, config: AgentConfig, pipelines: Pipelines) -> None:
        """From here on these count: at once, so that nothing is taken in between."""
        self._pipelines = pipelines
        self._manager.adopt(pipelines.made)
        self._configured = {source.id: source for source in config.source}
        self._pipeline_of.clear()
        self._pipeline_of.update({source.id: pipeline_id_of(config, source.id) for source in config.source})
        self._holding.clear()
        self._holding.update(pipelines.after_holding)

    async def take_stored(self, reading: Reading) -> None:
        """Take a reading that was decoded before, through the steps of its source's pipeline.

        Raises:
            KeyError: There is no such source.
        """
        pipeline_id = self._pipeline_of[reading.source]
        async with self._held.passage():
            await self.intake.take_late(pipeline_id, DECODE, [reading])

    # Dead letters

    @property
    def taken_again(self) -> frozenset[int]:
        """Dead letters that were taken again, and are to be removed from their table (`letters_removed`)."""
        return frozenset(self._held.taken_again)

    def letters_removed(self, letter_ids: Iterable[int]) -> None:
        """These are in the table of dead letters no more."""
        self._held.letters_removed(letter_ids)

    async def take_letter(self, letter: Letter) -> str | None:
        """Take what a dead letter holds the same way again; why it is one still, if it is.

        It is durably none any more once `commit` has returned.
        """
        strangers = [source for source in letter.sources if source not in self._configured]
        if strangers or not letter.sources:
            return f"there is no source {', '.join(strangers) or 'named in it'} in the configuration any more"
        try:
            if letter.raw is None:
                return await self._take_rest_again(letter)
            frames = self._frames_of(letter)
        except UnreadableLetterError as error:
            return str(error)
        return await self.intake.take_again(frames, letter.letter_id)

    def _frames_of(self, letter: Letter) -> list[CollectedData]:
        """What a dead letter holds, as its source is configured now."""
        source = self._configured[letter.sources[0]]
        data = letter.data(source.codec.type)
        framing = getattr(source.options, "framing", None)
        if letter.stage != FRAMING or framing is None:
            return [data]
        if hasattr(framing, "first_frame"):  # nothing was joined in the middle here
            framing = framing.model_copy(update={"first_frame": "keep"})
        framer = framing.framer()
        found = [*framer.feed(data.raw_data), *framer.finish()]
        if not any(isinstance(frame, bytes) for frame in found):
            reasons = [frame.reason for frame in found] or ["nothing of it is one"]
            raise UnreadableLetterError(f"still no frame: {reasons[0]}")
        return [
            data.model_copy(update={"raw_data": frame})
            if isinstance(frame, bytes)
            else data.model_copy(
                update={
                    "raw_data": frame.raw,
                    "metadata": {**data.metadata, metadata_keys.FRAME_ERROR: frame.reason},
                }
            )
            for frame in found
        ]

    async def _take_rest_again(self, letter: Letter) -> str | None:
        """Take readings again from the step on that could not process them."""
        readings = letter.readings()
        pipelines = {self._pipeline_of[reading.source] for reading in readings}
        if len(pipelines) != 1:
            return "its sources have several pipelines now: it cannot be taken again in one"
        (pipeline_id,) = pipelines
        steps = [step.step_id for step in (await self._manager.get_pipeline(pipeline_id)).get_steps()]
        place = steps.index(letter.stage) if letter.stage in steps else 0
        before = steps[place - 1] if place else None
        return await self.intake.take_rest_again(pipeline_id, before, readings, letter.letter_id)

    async def look(self) -> None:
        """Let steps give what need not wait any longer."""
        await self._held.look()

    async def _let_go(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_LET_GO_S)

    async def commit(self) -> None:
        """Make durable what has come in."""
        await self._held.settle()
        await self._buffer.flush()

    async def settle(self) -> None:
        """Commit what has come in, and acknowledge it to its sources."""
        await self.commit()
        await self.intake.acknowledgements.settled()
