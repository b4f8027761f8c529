"""What may be registered: the checks that every manager shares, real or mock.

A registration's configuration is the manager's part of a source or a backend (when to collect, how long
to wait). What a driver or a backend itself needs is given to its constructor.
"""

from collections.abc import Container
from typing import Annotated, Literal, TypeVar

from pydantic import ConfigDict, Field, ValidationError

from collectors.interfaces.collection import IDataSource
from collectors.interfaces.processing import IProcessor
from collectors.interfaces.storage import IStorageBackend
from collectors.models import Model

PositiveSeconds = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]
"""At most a week: a longer wait is a mistake in the unit."""
SilentAfter = Annotated[float, Field(gt=0, le=30 * 86400, allow_inf_nan=False)]
"""At most thirty days."""


class Registration(Model):
    """What registrations share: no unknown keys, no conversions between types, never changed."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


_Checked = TypeVar("_Checked", bound=Registration)


class SourceRegistration(Registration):
    """The configuration of `ICollectionManager.register_source`. An empty one is valid."""

    interval_s: PositiveSeconds | None = None
    """Collect one sample every so often, instead of streaming."""
    connect_timeout_s: PositiveSeconds = 30.0
    """A connect that takes longer has failed."""
    retry_cap_s: PositiveSeconds | None = None
    """The longest wait before it is tried again; for sources that wait by themselves while they connect."""
    silent_after_s: SilentAfter | None = None
    """How long nothing may come while the source is connected; without it, as long as the source itself finds usual."""
    when_stream_ends: Literal["complete", "reconnect"] = "complete"
    """What a stream that ends without an error means: that the source has no more, or that it was lost."""


class BackendRegistration(Registration):
    """The configuration of `IStorageManager.register_backend`. An empty one is valid."""

    store_timeout_s: PositiveSeconds | None = None
    """A store that takes longer has failed; without it, a store may wait for room as long as it takes."""
    read_only: bool = False
    """Refuse to store."""


def check_source(
    source: object, config: object, taken: Container[str] = ()
) -> tuple[str, SourceRegistration]:
    """The id of a source and its checked configuration.

    Raises:
        ValueError: The source is not one, its id is not a non-empty text or is taken, or the configuration
            is invalid.
    """
    if not isinstance(source, IDataSource):
        raise ValueError(f"{_type(source)} does not fulfil IDataSource")
    source_id = _free(_name(source.get_source_id(), "source id"), taken, "source")
    return source_id, _checked(SourceRegistration, config, f"source {source_id!r}")


def check_backend(
    backend: object, config: object, taken: Container[str] = ()
) -> tuple[str, BackendRegistration]:
    """The id of a backend and its checked configuration.

    Raises:
        ValueError: The backend is not one, its id is not a non-empty text or is taken, or the configuration
            is invalid.
    """
    if not isinstance(backend, IStorageBackend):
        raise ValueError(f"{_type(backend)} does not fulfil IStorageBackend")
    backend_id = _free(_name(backend.get_backend_id(), "backend id"), taken, "backend")
    return backend_id, _checked(BackendRegistration, config, f"backend {backend_id!r}")


def check_processor(processor: object, taken: Container[str] = ()) -> str:
    """The name of a processor.

    Raises:
        ValueError: It does not fulfil IProcessor, or its name is not a non-empty text or is taken.
    """
    if not isinstance(processor, IProcessor):
        raise ValueError(f"{_type(processor)} does not fulfil IProcessor")
    for method in ("process", "validate_input", "get_processor_name"):
        if not callable(getattr(processor, method)):
            raise ValueError(f"{_type(processor)}.{method} cannot be called")
    return _free(_name(processor.get_processor_name(), "processor name"), taken, "processor")


def check_step(processor: object, order: object, taken: Container[int]) -> str:
    """The name of a processor that may be added to a pipeline at this place.

    Raises:
        ValueError: The processor is not one, or the order is not an integer or taken.
    """
    name = check_processor(processor)
    if not isinstance(order, int) or isinstance(order, bool):
        raise ValueError(f"order must be an integer, not {order!r}")
    if order in taken:
        raise ValueError(f"order {order} is taken by another step")
    return name


def check_task_type(task_type: object) -> str:
    """A task type that may be tracked.

    Raises:
        ValueError: It is not a non-empty text.
    """
    return _name(task_type, "task type")


def check_progress(progress: float) -> float:
    """A progress that a task may have.

    Raises:
        ValueError: It is not between 0.0 and 1.0.
    """
    if not 0.0 <= progress <= 1.0:  # a NaN is refused too: it compares as false
        raise ValueError(f"progress must be between 0.0 and 1.0, not {progress!r}")
    return float(progress)


def check_pipeline_id(pipeline_id: object, taken: Container[str] = ()) -> str:
    """An id that a pipeline may have.

    Raises:
        ValueError: It is not a non-empty text, or it is taken.
    """
    return _free(_name(pipeline_id, "pipeline id"), taken, "pipeline")


def _checked(model: type[_Checked], config: object, what: str) -> _Checked:
    if not isinstance(config, dict):
        raise ValueError(f"the configuration of {what} must be a dict, not {_type(config)}")
    try:
        return model.model_validate(config)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'configuration'}: {fault['msg']}, not {fault['input']!r}"
            for fault in error.errors(include_url=False)
        )
        raise ValueError(f"the configuration of {what} is invalid: {faults}") from error


def _name(name: object, what: str) -> str:
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"a {what} must be a non-empty text, not {name!r}")
    return name


def _free(name: str, taken: Container[str], what: str) -> str:
    if name in taken:
        raise ValueError(f"there is a {what} {name!r} already")
    return name


def _type(thing: object) -> str:
    return thing.__name__ if isinstance(thing, type) else type(thing).__name__
