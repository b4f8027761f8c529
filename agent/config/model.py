"""What a configuration says, section by section, once it is known to be right."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from agent.config.spoilt import BUFFER_PATH, SOCKET_NAME
from collectors.units import Duration, DurationS, Size, SizeBytes
from drivers.codecs import CODECS, CodecChoice

Identifier = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""A name that fits into topics, URLs, file names and SenML names (RFC 8428, section 4.1) as it is."""


SOCKET_PATH_BYTES_MAX = 107
"""sun_path holds 108 bytes with its terminating zero (unix(7))."""
QUOTA_BYTES_MIN = 8 << 20
"""Two of the buffer's segments: while one is written the other may go."""


def _enough(quota: int) -> int:
    if quota < QUOTA_BYTES_MIN:
        raise ValueError("should be 8 MiB or more")
    return quota


FullPolicy = Literal["drop_oldest", "drop_newest", "block"]
_POLICIES: Final = get_args(FullPolicy)


class FullByLane(BaseModel):
    """What happens to the readings of each lane when there is no room."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    normal: FullPolicy = "drop_oldest"
    """Of readings that are no alarms."""
    alarm: FullPolicy = "drop_oldest"
    """Of alarms."""


def _by_lane(full: Any) -> Any:
    """One policy is that of both lanes."""
    if isinstance(full, dict | FullByLane):
        return full
    if full not in _POLICIES:
        raise ValueError(
            "should be 'drop_oldest', 'drop_newest' or 'block', or a table of these for `normal` and `alarm`"
        )
    return {"normal": full, "alarm": full}


def _a_path(path: Path) -> Path:
    if path == Path() or "\0" in str(path):
        raise ValueError("should be a path, such as one below /var/lib/outstation")
    return path


class Section(BaseModel):
    """What all sections share: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class DeviceConfig(Section):
    """`[device]`: which device this is."""

    id: Identifier | None = None
    """Unset, it is derived from the machine's identity."""


class SourceConfig(Section):
    """`[[source]]`: what every source has, whatever its driver; the driver checks the rest (`options`)."""

    id: Identifier
    """Names the source in every reading."""
    driver: str
    """How it is read."""
    codec: CodecChoice = Field(default_factory=lambda: CODECS.choose("json"))
    """A name, or a table with the name as `type` and the codec's options."""
    tags: dict[str, str] = Field(default_factory=dict)
    """Put on every reading of the source, such as `{ bed = "north" }`."""
    time: Literal["sensor", "arrival"] = "sensor"
    """Which time a reading has when its frame carries one: the sensor's, or that of arrival. The other is kept beside."""
    silent_after: Annotated[DurationS, Field(le=30 * 86400)] | None = None
    """How long nothing may come while the link is up; unset, as long as the driver finds usual, if it learns that."""
    options: Any = None


class StepConfig(Section):
    """`[[pipeline.step]]`: a processor by name; the processor checks the rest (`options`)."""

    processor: str
    """What the step does."""
    on_error: Literal["dead_letter", "drop", "pass"] = "dead_letter"
    """What becomes of a reading that the step cannot process."""
    options: Any = None


class PipelineConfig(Section):
    """`[[pipeline]]`: steps, and the readings that go through them. Unset, all sources, tags or metrics do."""

    name: Identifier
    """Names it in statistics and errors; unset, by its place: `pipeline-1`."""
    sources: Annotated[list[Identifier], Field(min_length=1)] | None = None
    """The ids of the sources whose readings go through it."""
    tags: Annotated[dict[str, str], Field(min_length=1)] | None = None
    """Readings that have all of these."""
    metrics: Annotated[list[str], Field(min_length=1)] | None = None
    """Readings that have one of these at least."""
    step: list[StepConfig] = Field(default_factory=list)


class BufferConfig(Section):
    """`[buffer]`: where and how readings are kept."""

    path: Annotated[Path, AfterValidator(_a_path)] = BUFFER_PATH
    """The folder of the buffer: one agent at a time."""
    sync: Literal["window", "each"] = "window"
    """When readings are committed: together, after a window, or each as soon as it has come."""
    window: Annotated[DurationS, Field(le=3600)] = 1.0
    """Seconds a reading nobody waits for may gather before its commit; what a power cut can cost."""
    quota: Annotated[SizeBytes, AfterValidator(_enough)] | None = None
    """Bytes that readings may take; unset, as many as the reserve leaves."""
    reserve: Annotated[int, Size, Field(ge=0)] = 64 << 20
    """Bytes of the disk that stay free for others; at most a tenth of it."""
    max_age: DurationS | None = None
    """Seconds that undelivered readings are kept; unset, until they are delivered."""
    full: Annotated[FullByLane, BeforeValidator(_by_lane, json_schema_input_type=FullPolicy | FullByLane)] = (
        FullByLane()
    )
    """What happens when quota or reserve are reached: the oldest readings go, the newest, or none; one policy, or one for each lane."""
    warn_below: Annotated[float, Duration, Field(ge=0, allow_inf_nan=False)] = 86400.0
    """Warn when the room lasts for less than these seconds at the present rate; 0 never."""
    card_endurance: SizeBytes | None = None
    """Bytes that can be written to the card in its life, as its maker states it."""
    keep_delivered: DurationS = 7 * 86400.0
    """Seconds that delivered readings stay for local history."""


class AgentSection(Section):
    """`[agent]`: the program itself."""

    socket: Annotated[Path, AfterValidator(_a_path)] | None = None
    """Where `outstation status` asks; unset, it lies in the buffer's folder."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """How much is logged."""
    watch: bool = False
    """Read the file again when it has changed, not only at SIGHUP."""


class UpstreamConfig(Section):
    """`[[upstream]]`: what every upstream has; its driver checks the rest (`options`)."""

    name: Identifier
    """What is delivered is remembered by it; unset, the driver's name."""
    driver: str
    """How it is reached."""
    options: Any = None


class AgentConfig(Section):
    """A whole configuration."""

    device: DeviceConfig
    source: tuple[SourceConfig, ...]
    pipeline: tuple[PipelineConfig, ...]
    buffer: BufferConfig
    upstream: tuple[UpstreamConfig, ...]
    agent: AgentSection
    files: tuple[Path, ...] = ()
    """What it was read from, in this order."""
    secret_files: tuple[Path, ...] = ()
    """Those that it names, and that may change by themselves."""

    @property
    def socket(self) -> Path:
        """Where `outstation status` asks."""
        return self.agent.socket or self.buffer.path / SOCKET_NAME

    def pipelines_of(self, source_id: str) -> tuple[PipelineConfig, ...]:
        """The pipelines that readings of a source may go through, in the order of the file."""
        return tuple(
            pipeline
            for pipeline in self.pipeline
            if pipeline.sources is None or source_id in pipeline.sources
        )
