"""What the driver needs to know. Import no library here: checking a configuration must not need it."""

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from collectors.units import DurationS


class SysfsConfig(BaseModel):
    """A file that shows a number.

    An unknown key is an error (`extra="forbid"`); what is wrong is told by `outstation check` with its key path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    interval: Annotated[DurationS, Field(ge=0.01, le=86400)] = 10.0
    """From one reading to the next; written "10 s" or "5 min"."""
