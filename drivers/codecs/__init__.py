"""Codecs: what a frame or message says. Pure: bytes in, values out.

A codec is named by the `data_format` of a `CollectedData`. It gives one `Decoded` for each reading in the frame,
or raises ValueError with a message that says what is wrong and where; never another exception.

A configuration names one, `codec = "json"`, or gives its options as well, `codec = { type = "csv", columns = [...] }`;
other packages can bring further ones (`drivers.extensions`).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny, ValidationError, ValidationInfo, WithJsonSchema

from drivers.choice import Choices
from drivers.codecs.config import CodecConfig
from drivers.codecs.model import Codec, Decoded
from drivers.extensions import CODECS as GROUP

__all__ = ["CODECS", "Codec", "CodecChoice", "CodecConfig", "Decoded", "codec"]

CODECS: Choices[CodecConfig] = Choices(
    "codec",
    {
        "bthome": "drivers.codecs.sensor_state:BTHomeConfig",
        "csv": "drivers.codecs.csv:CsvConfig",
        "gatt": "drivers.codecs.gatt:GattConfig",
        "govee": "drivers.codecs.sensor_state:GoveeConfig",
        "json": "drivers.codecs.json:JsonConfig",
        "key_value": "drivers.codecs.key_value:KeyValueConfig",
        "nmea": "drivers.codecs.nmea:NmeaConfig",
        "plain": "drivers.codecs.plain:PlainConfig",
        "regex": "drivers.codecs.regex:RegexConfig",
        "senml": "drivers.codecs.senml:SenmlConfig",
        "struct": "drivers.codecs.struct:StructConfig",
        "xiaomi": "drivers.codecs.sensor_state:XiaomiConfig",
    },
    GROUP,
    CodecConfig,  # type: ignore[type-abstract] # never instantiated: what every codec is a subclass of
)
"""Every codec by its name."""


def _chosen(value: Any, info: ValidationInfo) -> CodecConfig:
    return CODECS.choose(value, info.context)


CodecChoice = Annotated[
    SerializeAsAny[CodecConfig], BeforeValidator(_chosen), WithJsonSchema({"x-choice": "codec"})
]
"""A codec as a field of a configuration: its name, or a table with its name as `type` and its options."""


def codec(name: str) -> Codec:
    """The codec with this name, without options.

    Raises:
        ValueError: There is none, or it cannot do without options.
    """
    try:
        return CODECS.choose(name).codec()
    except ValidationError as error:
        missing = ", ".join(str(problem["loc"][0]) for problem in error.errors(include_url=False))
        raise ValueError(f"the codec {name!r} needs options: {missing}") from None
