"""Every step that a configuration can name. A step is imported when it is first asked for.

Other packages bring theirs by the entry-point group `outstation.processors`: each names a `Processor`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from agent.processors.reading_step import ReadingStep, StepOptions
from drivers.extensions import PROCESSORS as GROUP
from drivers.extensions import ExtensionError, Names, find_part, load_target

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Processor:
    """Where the parts of a step are, `module:class`, and what it is for."""

    step: str
    """A `ReadingStep` that is made with its options."""
    options: str
    """A `StepOptions`."""
    summary: str
    example: str
    """A `[[pipeline]]` with it, as TOML."""


def _own(name: str, class_name: str, summary: str, example: str) -> Processor:
    target = f"agent.processors.{name}:{class_name}"
    example = f'[[pipeline]]\n\n[[pipeline.step]]\nprocessor = "{name}"\n{example}\n'
    return Processor(target, f"{target}Options", summary, example)


PROCESSORS: Mapping[str, Processor] = {
    "aggregate": _own("aggregate", "Aggregate", "one reading for each window of time", 'every = "1 min"'),
    "alarm": _own(
        "alarm", "Alarm", "puts readings beyond a threshold on the fast lane", 'metric = "t"\nabove = 60.0'
    ),
    "calibrate": _own(
        "calibrate",
        "Calibrate",
        "what is, from what is shown",
        'metric = "t"\npoints = [[0, 0.4], [100, 99.8]]',
    ),
    "convert": _own("convert", "Convert", "a metric in another unit", 'metric = "t"\nto = "degF"'),
    "deadband": _own("deadband", "Deadband", "leaves out what hardly moved", 'metric = "t"\nwidth = 0.1'),
    "deduplicate": _own("deduplicate", "Deduplicate", "leaves out repetitions", 'within = "10 s"'),
    "derive": _own(
        "derive", "Derive", "a metric from others", 'metric = "dew"\nexpression = "t - (100 - rh) / 5"'
    ),
    "downsample": _own("downsample", "Downsample", "one reading in a time", 'every = "1 min"'),
    "range": _own("range", "Range", "marks what is out of range", 'metric = "t"\nlow = -40\nhigh = 85'),
    "rate": _own("rate", "Rate", "marks what moves faster than it can", 'metric = "t"\nmax_rise = 0.5'),
    "scale": _own("scale", "Scale", "times a factor, plus an offset", 'metric = "t"\nfactor = 0.01'),
    "select": _own("select", "Select", "which metrics stay, and their names", 'drop = ["debug.*"]'),
    "stuck": _own("stuck", "Stuck", "marks what does not move", 'metric = "t"\nlonger_than = "2 h"'),
    "swinging_door": _own(
        "swinging_door", "SwingingDoor", "keeps only the corners of a signal", 'metric = "t"\nwidth = 0.1'
    ),
    "tag": _own("tag", "Tag", "adds tags", 'tags = { site = "north" }'),
}

NAMES: Final = Names(PROCESSORS, GROUP)
"""The names of all steps, those of other packages too."""


def processor(name: str) -> Processor:
    """The step with this name; imports nothing, unless another package brings it.

    Raises:
        ValueError: There is none, or it cannot be used; the message says what would be right.
    """
    return find_part(name, PROCESSORS, GROUP, "processor")


def load_config_class(name: str) -> type[StepOptions]:
    """The model of a step's options.

    Raises:
        ValueError: There is no such step, or it cannot be used.
    """
    return cast("type[StepOptions]", _load(processor(name).options, name))


def create_processor(name: str, options: StepOptions | dict[str, Any]) -> ReadingStep:
    """A step with its options.

    Raises:
        ValueError: There is no such step, it cannot be used, or the options are invalid.
    """
    checked = load_config_class(name).model_validate(options)
    step_class = cast("type[Any]", _load(processor(name).step, name))
    step = step_class(checked)
    if not isinstance(step, ReadingStep):
        raise ExtensionError(f"the processor {name!r} is no agent.processors.reading_step.ReadingStep")
    return step


def _load(target: str, name: str) -> object:
    return load_target(target, name, PROCESSORS, "processor")
