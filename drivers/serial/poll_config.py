"""What a device is asked, and how often."""

from __future__ import annotations

from datetime import UTC, datetime
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from collectors.units import DurationS
from drivers.framing.config import ByteNumbers, parse_bytes
from drivers.framing.crc import CRCS, CrcName

if TYPE_CHECKING:
    from drivers.framing import FramingConfig

_PLACES = ("number", "unix", "unix_ms")
REQUEST_BYTES_MAX = 1024


def _request(value: Any) -> Any:
    """A template, or bytes from a list of numbers.

    Raises:
        ValueError: It is neither, or names what there is not.
    """
    if not isinstance(value, str):
        return parse_bytes(value)
    try:
        parts = list(Formatter().parse(value))
    except ValueError as error:
        raise ValueError(f"{error}; write a brace as {{{{ or }}}}") from None
    for _, name, spec, conversion in parts:
        if name is not None and (name not in _PLACES or spec or conversion):
            raise ValueError(
                f"{{{name}}} is nothing to fill in: there are {{number}}, {{unix}} and {{unix_ms}}; write a brace as {{{{ or }}}}"
            )
    parse_bytes(value)
    return value


class PollConfig(BaseModel):
    """A device that speaks when it is asked."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    request: Annotated[
        str | bytes,
        BeforeValidator(_request, json_schema_input_type=str | ByteNumbers),
        Field(min_length=1, max_length=REQUEST_BYTES_MAX),
    ]
    """What to send: a text with one character a byte, in which {number} counts the requests and {unix} or {unix_ms} is the
    time; or a list of bytes."""
    interval: Annotated[DurationS, Field(ge=0.001, le=7 * 86400)]
    """From one request to the next. The schedule does not drift; what falls due while an answer is awaited is left out."""
    timeout: Annotated[DurationS, Field(ge=0.001, le=3600)] = 1.0
    """How long to wait for an answer."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How often to ask again when there was no good answer."""
    framed: bool = False
    """Send the request as a frame of the source's framing."""
    crc: CrcName = "none"
    """A check sequence to put behind a request that is not framed."""

    def check(self, framing: FramingConfig) -> None:
        """See whether a request can be made.

        Raises:
            ValueError: The framing cannot hold it, or has a check sequence of its own.
        """
        if self.framed and self.crc != "none":
            raise ValueError("`poll.crc`: a request that is `framed` has the check sequence of the framing")
        try:
            self.render(10**9, datetime.now(UTC), framing)
        except ValueError as error:
            raise ValueError(f"`poll.request`: {error}") from None

    def render(self, number: int, now: datetime, framing: FramingConfig) -> bytes:
        """The bytes of one request.

        Raises:
            ValueError: The framing cannot hold it.
        """
        request = self.request
        if isinstance(request, str):
            unix_ms = int(now.timestamp() * 1000)
            request = request.format(number=number, unix=unix_ms // 1000, unix_ms=unix_ms).encode("latin-1")
        return framing.encode(request) if self.framed else CRCS[self.crc].append(request)
