"""Sources that give everything a port says, for `outstation record`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from drivers import registry as drivers
from drivers.framing.pieces import PiecesConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.config import SourceConfig
    from collectors.clock import Clock
    from collectors.interfaces import IDataSource

_DRIVER: Final = "serial"
_LINE: Final = ("baudrate", "bytesize", "parity", "stopbits", "flow_control")


def port_options(port: str, line: Mapping[str, Any]) -> Any:
    """The options of a port that is in no configuration.

    Args:
        port: As a configuration names it.
        line: What is known about the line.

    Raises:
        ValueError: They are not right; a ValidationError names the places.
    """
    return drivers.load_config_class(_DRIVER).model_validate({"port": port, **line})


def options_of(source: SourceConfig) -> Any:
    """The options of a configured source's port.

    Raises:
        ValueError: It has no port.
    """
    if source.driver != _DRIVER:
        raise ValueError(
            f"{source.id} is no serial source (driver {source.driver}): it has no port to record"
        )
    return source.options


def recording_source(options: Any, clock: Clock) -> IDataSource:
    """A source that gives the bytes of a port as they arrive, and asks as the configured one does."""
    unframed = options.model_copy(
        update={
            "framing": PiecesConfig(sent=options.framing),
            "silent_after": None,
        }  # silence is recorded, too
    )
    return drivers.load_source_class(_DRIVER)("record", unframed, data_format="pieces", clock=clock)


def settings_of(options: Any) -> dict[str, Any]:
    """What a capture should say about its port."""
    line = {key: getattr(options, key) for key in _LINE} if options.is_device else {}
    return {"port": options.name, **line}
