"""The subjects of NATS: `outstation.<device>.batch`, `.ledger` and `.ack`, the device as one token.

Packs and ledgers are kept by the stream `OUTSTATION`; acknowledgements are not: a receiver repeats one when the
pack comes again.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

STREAM = "OUTSTATION"
"""Keeps what devices publish until a receiver has committed it."""
BATCH_FILTER = "outstation.*.batch"
LEDGER_FILTER = "outstation.*.ledger"

_PLAIN = re.compile(r"[A-Za-z0-9_-]")


def _token(device_id: str) -> str:
    """The id as one token: what NATS gives a meaning (`.`, `*`, `>`, blanks) is percent-encoded, with all but the plainest."""
    return "".join(
        chr(byte) if _PLAIN.fullmatch(chr(byte)) else f"%{byte:02X}" for byte in device_id.encode("utf-8")
    )


def batch_subject(device_id: str) -> str:
    """Where a device's packs go."""
    return f"outstation.{_token(device_id)}.batch"


def ledger_subject(device_id: str) -> str:
    """Where a device tells of its losses."""
    return f"outstation.{_token(device_id)}.ledger"


def ack_subject(device_id: str) -> str:
    """Where a receiver acknowledges both."""
    return f"outstation.{_token(device_id)}.ack"


def device_of_subject(subject: str) -> str:
    """The device that a subject belongs to.

    Raises:
        ValueError: It is not one of ours.
    """
    match subject.split("."):
        case ["outstation", token, _] if token:
            return unquote(token)
    raise ValueError(f"not a subject of an Outstation: {subject!r}")
