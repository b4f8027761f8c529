"""Until when certificates are good, without a library for them: the one field that is needed of a PEM file.

A certificate is DER (ITU-T X.690) of `SEQUENCE { tbsCertificate SEQUENCE { [0] version?, serialNumber, signature, issuer, validity
SEQUENCE { notBefore, notAfter }, ... } ... }` (RFC 5280, section 4.1).
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime
from typing import Final, NamedTuple

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _GENERALIZED_TIME = 0x30, 0xA0, 0x17, 0x18
_LONG_FORM: Final = 0x80
_FORMATS: Final = {_UTC_TIME: "%y%m%d%H%M%SZ", _GENERALIZED_TIME: "%Y%m%d%H%M%SZ"}


class NotACertificateError(ValueError):
    """These bytes hold none."""


class _Element(NamedTuple):
    tag: int
    content: bytes
    rest: bytes


def ends_of(pem: bytes) -> list[datetime]:
    """Until when each certificate in a PEM file is good.

    Raises:
        NotACertificateError: There is none in it, or one is spoilt.
    """
    found = _PEM.findall(pem)
    if not found:
        raise NotACertificateError("there is no certificate in it")
    try:
        return [_end_of(base64.b64decode(text)) for text in found]
    except (binascii.Error, IndexError, KeyError, ValueError) as error:
        raise NotACertificateError(f"a certificate in it is spoilt: {error}") from error


def _end_of(der: bytes) -> datetime:
    fields = _take(_take(der).content).content
    if fields[0] == _VERSION:
        fields = _take(fields).rest
    for _ in range(3):  # serialNumber, signature, issuer
        fields = _take(fields).rest
    validity = _take(fields)
    if validity.tag != _SEQUENCE:
        raise ValueError("its fields are in no order that is known")
    end = _take(_take(validity.content).rest)
    return datetime.strptime(end.content.decode("ascii"), _FORMATS[end.tag]).replace(tzinfo=UTC)


def _take(der: bytes) -> _Element:
    """The first element of some bytes."""
    size, at = der[1], 2
    if size & _LONG_FORM:
        count = size & ~_LONG_FORM
        size, at = int.from_bytes(der[2 : 2 + count], "big"), 2 + count
    if len(der) < at + size:
        raise ValueError("it is cut off")
    return _Element(der[0], der[at : at + size], der[at + size :])
