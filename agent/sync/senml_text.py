"""SenML straight from the buffer's own text: the same pack, byte for byte, as `agent.sync.senml.encode` makes. Pure.

Stored readings are compact JSON, and most of them look alike: their text is cut and put together anew, without
making an object of anything, in a third of the time. Whatever does not look like it (names that have to be escaped,
backslashes, times before 2001, labels in another order) is left to `encode`: then there is no pack from here.
"""

from __future__ import annotations

import re
from typing import Final

from agent.sync.senml import PART

# Possessive throughout: what does not fit is found out without trying again.
_NUMBER: Final = rb"-?[0-9][0-9.eE+-]*+"
_FLAT: Final = rb"\{[^{}\\]*+\}"
"""An object of plain values. Where a text in it holds a brace, what follows fits nothing, and so there is no match."""
_RECORD: Final = re.compile(
    rb'[{,]"([0-9]++)":\{"source":"([A-Za-z0-9][-A-Za-z0-9._]*+)","t":([0-9]{10}(?:\.[0-9]++)?+),'
    rb'"values":\{([^{}\\]*+)\}(?:,"units":\{([^{}\\]++)\})?+'
    rb'((?:,"tags":' + _FLAT + rb')?+(?:,"quality":' + _FLAT + rb')?+(?:,"indicators":' + _FLAT + rb")?+"
    rb'(?:,"clock":"[a-z]++")?+(?:,"(?:boot|up|t_error|t_sensor|t_arrived)":' + _NUMBER + rb")*+"
    rb'(?:,"lane":"[a-z]++")?+(?:,"origin":\[[^\[\]\\]*+\])?+)\}'
)
_RECORD_BYTES: Final = len(b',"":{"source":"","t":,"values":{}}')
_UNITS_BYTES: Final = len(b',"units":{}')
_VALUE: Final = re.compile(rb'"([-A-Za-z0-9:./_]++)":(' + _NUMBER + rb'|true|false|"[^"\\]*+")')
_VALUE_BYTES: Final = len(b'"":,')
_UNIT: Final = re.compile(rb'"([^"\\]++)":"([^"\\]*+)"')
_LABELS: Final = {ord('"'): b',"vs":', ord("t"): b',"vb":', ord("f"): b',"vb":'}


def encode_text(device_id: str, store_id: str, encoded: bytes) -> tuple[bytes, int] | None:
    """A pack of records, and how many values are in it; None when it is not that simple.

    Args:
        device_id: The device.
        store_id: The buffer that holds them.
        encoded: The records, `{"<seq>":<document>,...}`, as `Batch.encoded` gives them.
    """
    if PART.fullmatch(device_id) is None or not store_id.isalnum():
        return None
    begin = b'{"bn":"' + device_id.encode() + b":"
    store = b',"store":"' + store_id.encode() + b'"'
    heads: dict[bytes, dict[bytes, bytes]] = {b"": {}}
    pack: list[bytes] = []
    size = points = 0
    for record in _RECORD.findall(encoded):
        seq, source, measured, values, given, labels = record
        own = heads.get(given)
        if own is None:
            own = heads[given] = {
                name: name + b'","u":"' + unit + b'"' for name, unit in _UNIT.findall(given)
            }
        size += _RECORD_BYTES + len(b"".join(record)) + (_UNITS_BYTES if given else 0)
        head = b'%b%b/","bt":%b,"seq":%b%b%b,"n":"' % (begin, source, measured, seq, store, labels)
        store = b""
        left, known = len(values) + 1, 0
        for name, value in _VALUE.findall(values):
            named = own.get(name)
            if named is None:
                named = name + b'"'
            else:
                known += 1
            pack.append(head + named + _LABELS.get(value[0], b',"v":') + value)
            head = b'{"n":"'
            left -= _VALUE_BYTES + len(name) + len(value)
            points += 1
        if left or known != len(own):
            return None  # a value of another kind; or a unit without one, or a name twice
    if size != len(encoded) - 1:
        return None  # something between or within them is of another kind
    return b"[" + b"},".join(pack) + b"}]", points
