"""How Bluetooth names things in a configuration: addresses, adapters, UUIDs, companies."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from drivers.codecs.bluetooth_uuid import full_uuid

_ADDRESS: Final = re.compile(r"[0-9A-F]{2}(:[0-9A-F]{2}){5}")
_ADAPTER: Final = re.compile(r"hci\d{1,3}")


def parse_address(text: str) -> str:
    """A device address, in capitals.

    Raises:
        ValueError: It is none.
    """
    address = text.strip().upper().replace("-", ":")
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"{text!r} is no Bluetooth address: it must be like A4:C1:38:12:34:56")
    return address


def parse_adapter(text: str) -> str:
    """An adapter: its name, or its address in capitals.

    Raises:
        ValueError: It is neither.
    """
    if _ADAPTER.fullmatch(text):
        return text
    try:
        return parse_address(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no adapter: it must be like hci0, or be the adapter's address"
        ) from None


Address = Annotated[str, AfterValidator(parse_address)]
Adapter = Annotated[str, AfterValidator(parse_adapter)]
Uuid = Annotated[str, BeforeValidator(full_uuid, json_schema_input_type=int | str)]
Company = Annotated[int, Field(ge=0, le=0xFFFF)]
"""A company identifier of the SIG's assigned numbers, which stands before manufacturer-specific data."""
