"""The data models of the contract (pydantic), and `Reading`, the unit of everything downstream.

Times are `datetime`. A naive one is taken as local time; inside, every time is aware and UTC.
Durations and averages are seconds from a monotonic clock.
"""

import math
import warnings
from datetime import UTC, datetime
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    StrictStr,
)

from collectors.enums import (
    ClockQuality,
    CollectionStatus,
    ErrorType,
    EventType,
    Lane,
    QualityFlag,
    TaskStatus,
)
from collectors.interfaces.processing import IProcessor


def to_utc(when: datetime) -> datetime:
    """The same instant, aware and in UTC; a naive time is taken as local time."""
    return when.astimezone(UTC)


UtcDatetime = Annotated[datetime, AfterValidator(to_utc)]
Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Model(BaseModel):
    """What all models share: unknown fields are errors, assignments are checked."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, defer_build=True)


class CollectedData(Model):
    """One frame or message as it came from a source.

    Raises:
        ValueError: A field is missing or empty (`pydantic.ValidationError`).
    """

    source_id: Name
    timestamp: UtcDatetime
    data_format: Name
    """The codec that can decode `raw_data`, such as `json`."""
    collection_method: Name
    """How it was obtained, such as `serial`, `mqtt`, `poll`."""
    raw_data: bytes
    metadata: dict[str, Any] = Field(default_factory=dict)
    """What else the source knows; the keys with a fixed meaning are in `collectors.metadata_keys`."""


with warnings.catch_warnings():
    # `schema` shadows a deprecated method of pydantic's BaseModel. The user's API
    # reference names the field so, and nothing here calls the method.
    warnings.filterwarnings("ignore", message='Field name "schema"', category=UserWarning)

    class ParsedMetadata(Model):
        """What a metadata parser found in a `CollectedData`."""

        schema: dict[str, Any]  # type: ignore[assignment]
        quality_indicators: dict[str, float]
        source_attributes: dict[str, Any]
        is_valid: bool
        validation_errors: list[str] = Field(default_factory=list)


class CollectionTask(Model):
    """A collection task of an `ICollectionManager`."""

    task_id: Name
    source_id: Name
    status: CollectionStatus
    created_at: UtcDatetime
    started_at: UtcDatetime | None = None
    stopped_at: UtcDatetime | None = None


class CollectionStatistics(Model):
    """What was collected from one source."""

    success_count: Count = 0
    failure_count: Count = 0
    average_processing_time: Seconds = 0.0
    last_collection_time: UtcDatetime | None = None


class ProcessingResult(Model):
    """What one processor made of one input."""

    success: bool
    processed_data: Any | None = None
    error: str | None = None
    processing_time: Seconds = 0.0


class PipelineStep(Model):
    """One processor in its place in a pipeline."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    step_id: Name
    processor: IProcessor
    order: int


class PipelineResult(Model):
    """What a whole pipeline made of one input."""

    success: bool
    final_data: Any | None = None
    step_results: list[ProcessingResult] = Field(default_factory=list)
    failed_step: str | None = None
    total_time: Seconds = 0.0


class ProcessingStatistics(Model):
    """What one step of a pipeline did."""

    step_name: Name
    execution_count: Count = 0
    success_count: Count = 0
    failure_count: Count = 0
    average_time: Seconds = 0.0


class StorageLocation(Model):
    """Where a stored item is."""

    backend_id: Name
    location_id: Name
    path: str
    created_at: UtcDatetime


class QueryCriteria(Model):
    """Which stored items, in which order."""

    filters: dict[str, Any] = Field(default_factory=dict)
    sort_by: str | None = None
    limit: Count | None = None
    offset: Count | None = None


class StorageStatistics(Model):
    """What a storage backend holds."""

    backend_id: Name
    stored_count: Count = 0
    storage_usage_bytes: Count = 0
    last_storage_time: UtcDatetime | None = None


class ErrorInfo(Model):
    """An error of any layer, with its context."""

    error_type: ErrorType
    timestamp: UtcDatetime
    layer_name: Name
    operation: Name
    message: str
    details: dict[str, Any] = Field(default_factory=dict)
    is_critical: bool = False


class SystemEvent(Model):
    """Something that happened."""

    event_type: EventType
    timestamp: UtcDatetime
    source: Name
    data: dict[str, Any] = Field(default_factory=dict)


class TaskInfo(Model):
    """What is known about an asynchronous task."""

    task_id: Name
    task_type: Name
    status: TaskStatus
    created_at: UtcDatetime
    started_at: UtcDatetime | None = None
    completed_at: UtcDatetime | None = None
    progress: Annotated[float, Field(ge=0, le=1)] = 0.0
    result: Any | None = None
    error: str | None = None


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("must be a finite number: JSON has no NaN or infinity")
    return value


def _no_integer(value: object) -> object:
    """An integer that is too large for its own place in the union would become a rounded float here."""
    if isinstance(value, int):
        raise ValueError("must be an integer of 64 bits, or a float")
    return value


INT_MIN, INT_MAX = -(2**63), 2**63 - 1
"""The integers that every JSON reader, SQL database and wire format on the way can hold."""

Value = (
    StrictBool
    | Annotated[StrictInt, Field(ge=INT_MIN, le=INT_MAX)]
    | Annotated[StrictFloat, BeforeValidator(_no_integer), Field(allow_inf_nan=False)]
    | StrictStr
)
"""What a metric may be: a finite number, a truth value or a text."""


class Quality(Model):
    """How far one metric of a reading can be trusted, and why."""

    flag: QualityFlag
    reason: str = ""


class Origin(Model):
    """Where a redeliverable message came from, so that its second delivery is recognised."""

    client: Name
    """The MQTT client identifier that received it."""
    packet: Annotated[int, Field(ge=1, le=65535)]
    """The MQTT packet identifier."""
    payload_hash: Name
    """A digest of topic and payload, in hexadecimal."""


class Reading(Model):
    """What one frame or message says at one time: the unit of storing, acknowledgement and delivery.

    `to_document` gives the compact form that the buffer stores: fields at their default are left out.
    """

    source: Name
    t: Annotated[float, AfterValidator(_finite)]
    """When it was measured: seconds since 1970-01-01 UTC, to the microsecond."""
    values: Annotated[dict[Name, Value], Field(min_length=1)]
    units: dict[str, str] = Field(default_factory=dict)
    """Unit of a metric, by RFC 8428's registry (`Cel`, `%RH`, `V`) where it has one."""
    tags: dict[str, str] = Field(default_factory=dict)
    quality: dict[str, Quality] = Field(default_factory=dict)
    """Only metrics that are not good."""
    indicators: dict[Name, Annotated[float, AfterValidator(_finite)]] = Field(default_factory=dict)
    """How well it was received, such as `rssi_dbm`: by name and unit, where its source knows."""
    clock: ClockQuality = ClockQuality.SYNCED
    boot: Count = 0
    """Which boot of the device, counted from 1; 0 is unknown."""
    up: Count = 0
    """CLOCK_BOOTTIME at measurement, nanoseconds; 0 is unknown."""
    t_error: Annotated[float, AfterValidator(_finite), Field(ge=0)] | None = None
    """How far `t` may be off, seconds, where it was corrected or estimated; None: unknown, or as good as the clock."""
    t_sensor: Annotated[float, AfterValidator(_finite)] | None = None
    """What the sensor's own clock said, seconds since 1970-01-01 UTC, where `t` is ours."""
    t_arrived: Annotated[float, AfterValidator(_finite)] | None = None
    """When it arrived here, seconds since 1970-01-01 UTC, where `t` is the sensor's and our clock was right."""
    lane: Lane = Lane.NORMAL
    origin: Origin | None = None

    def changed(self, **fields: Any) -> Self:
        """A copy with other values for some fields, which are not validated: for code that makes valid ones.

        A third of the time that `model_copy` takes; what it sets are the documented attributes of a `BaseModel`.
        """
        copy = self.__class__.__new__(self.__class__)
        set_attribute = object.__setattr__  # past `validate_assignment`
        set_attribute(copy, "__dict__", {**self.__dict__, **fields})
        set_attribute(copy, "__pydantic_fields_set__", self.__pydantic_fields_set__ | fields.keys())
        set_attribute(copy, "__pydantic_extra__", None)
        set_attribute(copy, "__pydantic_private__", None)
        return copy

    def to_document(self) -> dict[str, Any]:
        """The compact JSON object of this reading."""
        document: dict[str, Any] = {"source": self.source, "t": round(self.t, 6), "values": self.values}
        if self.units:
            document["units"] = self.units
        if self.tags:
            document["tags"] = self.tags
        if self.quality:
            document["quality"] = {name: [q.flag.value, q.reason] for name, q in self.quality.items()}
        if self.indicators:
            document["indicators"] = self.indicators
        if self.clock is not ClockQuality.SYNCED:
            document["clock"] = self.clock.value
        if self.boot:
            document["boot"] = self.boot
        if self.up:
            document["up"] = self.up
        self._add_times(document)
        if self.lane is not Lane.NORMAL:
            document["lane"] = self.lane.value
        if self.origin is not None:
            document["origin"] = [self.origin.client, self.origin.packet, self.origin.payload_hash]
        return document

    def _add_times(self, document: dict[str, Any]) -> None:
        """What is known of the time beside `t`; most readings have none of it."""
        if self.t_error is not None:
            document["t_error"] = self.t_error
        if self.t_sensor is not None:
            document["t_sensor"] = self.t_sensor
        if self.t_arrived is not None:
            document["t_arrived"] = self.t_arrived

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Self:
        """The reading that `to_document` gave.

        Raises:
            ValueError: The document is not one of a reading.
        """
        fields = dict(document)
        quality = fields.get("quality")
        if isinstance(quality, dict):
            fields["quality"] = {
                name: {"flag": entry[0], "reason": entry[1]}
                if isinstance(entry, list) and len(entry) == 2  # noqa: PLR2004 (flag and reason)
                else entry
                for name, entry in quality.items()
            }
        origin = fields.get("origin")
        if isinstance(origin, list) and len(origin) == 3:  # noqa: PLR2004 (client, packet, hash)
            fields["origin"] = {"client": origin[0], "packet": origin[1], "payload_hash": origin[2]}
        return cls.model_validate(fields)
