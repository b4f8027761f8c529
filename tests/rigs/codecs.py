"""How a pipeline without configuration finds its codecs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from drivers.codecs import codec

if TYPE_CHECKING:
    from drivers.codecs import Codec


def without_options(_source_id: str, data_format: str) -> Codec:
    """The codec of this name, with its defaults."""
    return codec(data_format)
