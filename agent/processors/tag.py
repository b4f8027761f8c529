"""Tag: fixed tags on every reading."""

from typing import Annotated

from pydantic import Field

from agent.processors.reading_step import ReadingStep, StepOptions
from collectors.models import Name, Reading


class TagOptions(StepOptions):
    """`[[pipeline.step]] processor = "tag"`."""

    tags: Annotated[dict[Name, str], Field(min_length=1)]
    """The tags to add, such as `{ site = "north" }`."""
    overwrite: bool = False
    """Replace a tag that the reading has already; otherwise the reading's own stays."""


class Tag(ReadingStep):
    """Adds tags."""

    def __init__(self, options: TagOptions) -> None:
        super().__init__(f"tag:{','.join(options.tags)}")
        self._tags = options.tags
        self._overwrite = options.overwrite

    def apply(self, reading: Reading) -> Reading:
        """The reading with the tags."""
        tags = {**reading.tags, **self._tags} if self._overwrite else {**self._tags, **reading.tags}
        return reading.changed(tags=tags)
