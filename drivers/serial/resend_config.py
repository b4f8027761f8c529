"""How a sensor is asked to send readings again."""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from collectors.units import DurationS
from drivers.serial.resend import DEPTH_MAX

if TYPE_CHECKING:
    from drivers.serial.resend import Request

_PLACES = {"boot", "first", "last"}
Metric = Annotated[str, Field(min_length=1)]


def _template(template: str) -> str:
    """A request that names the readings it is for.

    Raises:
        ValueError: It does not, or not all of it is bytes.
    """
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise ValueError(f"{error}; write a brace as {{{{ or }}}}") from None
    named = {name for _, name, _, _ in parts if name is not None}
    plain = not any(spec or conversion for _, _, spec, conversion in parts)
    if not {"first", "last"} <= named <= _PLACES or not plain:
        raise ValueError("must hold {first} and {last}, may hold {boot}, and nothing else in braces")
    if not all(ord(character) < 256 for character in template):  # noqa: PLR2004 (what a byte can hold)
        raise ValueError("has characters that are not one byte each; write bytes as \\u0000 to \\u00ff")
    return template


class ResendConfig(BaseModel):
    """A sensor that numbers its readings, keeps the latest in a ring, and sends them again on request."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    depth: Annotated[int, Field(ge=1, le=DEPTH_MAX)]
    """How many readings the ring holds."""
    counter: Metric = "seq"
    """The metric that counts the readings of one start of the sensor, from 1."""
    boot: Metric = "boot"
    """The metric that says which start it is: a number or text that differs from one start to the next."""
    uptime: Metric = "ms"
    """The metric that says when it was measured, milliseconds since the start."""
    request: Annotated[str, AfterValidator(_template)] = "R{boot}:{first}-{last}\n"
    """What asks for readings; a character a byte."""
    timeout: Annotated[DurationS, Field(le=300)] = 1.0
    """How long to wait for the next reading of an answer."""

    @model_validator(mode="after")
    def _three_metrics(self) -> Self:
        """Each says something else.

        Raises:
            ValueError: Two are the same.
        """
        if len({self.counter, self.boot, self.uptime}) < 3:  # noqa: PLR2004 (as said)
            raise ValueError("`counter`, `boot` and `uptime` must be three metrics")
        return self

    def render(self, request: Request) -> bytes:
        """The bytes of a request."""
        boot = str(request.boot)
        text = self.request.format(boot=boot, first=request.first, last=request.last)
        return text.encode("latin-1", errors="replace")
