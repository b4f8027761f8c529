"""Codecs: what a frame or message says. Pure: bytes in, values out.

A codec is named by the `data_format` of a `CollectedData`. It gives one `Decoded` for each reading in the frame,
or raises ValueError with a message that says what is wrong and where; never another exception.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.codecs.json import decode as _decode_json
from drivers.codecs.model import Codec, Decoded
from drivers.codecs.plain import decode as _decode_plain
from drivers.codecs.senml import decode as _decode_senml

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CODECS", "Codec", "Decoded", "codec"]

CODECS: Mapping[str, Codec] = {"json": _decode_json, "plain": _decode_plain, "senml": _decode_senml}
"""Every codec by its name."""


def codec(name: str) -> Codec:
    """The codec with this name.

    Raises:
        ValueError: There is none; the message lists those there are.
    """
    found = CODECS.get(name)
    if found is None:
        raise ValueError(f"no codec is named {name!r}; there are: {', '.join(sorted(CODECS))}")
    return found
