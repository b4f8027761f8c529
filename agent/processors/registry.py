"""Every step that a configuration can name. A step is imported when it is first asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from agent.processors.reading_step import ReadingStep, StepOptions

_STEPS = {
    "aggregate": ("agent.processors.aggregate", "Aggregate"),
    "alarm": ("agent.processors.alarm", "Alarm"),
    "calibrate": ("agent.processors.calibrate", "Calibrate"),
    "convert": ("agent.processors.convert", "Convert"),
    "deadband": ("agent.processors.deadband", "Deadband"),
    "deduplicate": ("agent.processors.deduplicate", "Deduplicate"),
    "derive": ("agent.processors.derive", "Derive"),
    "downsample": ("agent.processors.downsample", "Downsample"),
    "range": ("agent.processors.range", "Range"),
    "rate": ("agent.processors.rate", "Rate"),
    "scale": ("agent.processors.scale", "Scale"),
    "select": ("agent.processors.select", "Select"),
    "stuck": ("agent.processors.stuck", "Stuck"),
    "swinging_door": ("agent.processors.swinging_door", "SwingingDoor"),
    "tag": ("agent.processors.tag", "Tag"),
}


def processor_names() -> frozenset[str]:
    """The names of all steps."""
    return frozenset(_STEPS)


def load_config_class(name: str) -> type[StepOptions]:
    """The model of a step's options.

    Raises:
        ValueError: There is no such step; the message lists those there are.
    """
    module, step = _find(name)
    return cast("type[StepOptions]", getattr(importlib.import_module(module), f"{step}Options"))


def create_processor(name: str, options: StepOptions | dict[str, Any]) -> ReadingStep:
    """A step with its options.

    Raises:
        ValueError: There is no such step, or the options are invalid.
    """
    module, step = _find(name)
    checked = load_config_class(name).model_validate(options)
    return cast("ReadingStep", getattr(importlib.import_module(module), step)(checked))


def _find(name: str) -> tuple[str, str]:
    found = _STEPS.get(name)
    if found is None:
        raise ValueError(f"no processor is named {name!r}; there are: {', '.join(sorted(_STEPS))}")
    return found
