"""The configuration of a device, put together from the tables a journey needs.

```python
device(serial_source(port), mqtt_source(broker.url), upstream("http://127.0.0.1:8080/readings"))
```
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DEVICE_ID = "journey-pi"
QUICK_RETRY = {"first": "200 ms", "base": "200 ms", "cap": "1 s"}
"""A back-off that a test can wait for."""


def device(*tables: str, **buffer: object) -> str:
    """A whole file: the device, its sources and upstreams, and a buffer in `buffer/` beside the file."""
    head = _table("[device]", {"id": DEVICE_ID})
    return "\n".join([head, *tables, _table("[buffer]", {"path": "buffer", **buffer})])


def serial_source(port: str | Path, source_id: str = "boiler", **options: object) -> str:
    """A source that reads lines from a port."""
    return _source(source_id, "serial", {"port": str(port), **options})


def mqtt_source(url: str, source_id: str = "hall", **options: object) -> str:
    """A source that listens to `sensors/+` on a broker."""
    return _source(source_id, "mqtt", {"url": url, "topics": ["sensors/+"], **options})


def bluetooth_source(driver: str, source_id: str, **options: object) -> str:
    """A source of advertisements (`ble`) or characteristics (`gatt`)."""
    return _source(source_id, driver, options)


def counting_source(rate_hz: float, *, start: int = 0) -> str:
    """A simulated source, `counter`, whose `n` counts from `start`."""
    signal = {"name": "n", "kind": "counter", "start": start}
    return _source("counter", "simulated", {"rate": rate_hz, "signals": [signal]})


def alarming_source(rate_hz: float, *, every_s: float) -> str:
    """A simulated source, `guard`, and the pipeline that makes one alarm of it in this time, raised and cleared in turn."""
    signal = {"name": "level", "kind": "square", "low": 0, "high": 1, "period": f"{2000 * every_s:g} ms"}
    source = _source("guard", "simulated", {"rate": rate_hz, "signals": [signal]})
    step = _table("[[pipeline.step]]", {"processor": "alarm", "metric": "level", "above": 0.5})
    return "\n".join([source, _table("[[pipeline]]", {"sources": ["guard"]}), step])


def upstream(url: str, *, retry: Mapping[str, object] = QUICK_RETRY, **options: object) -> str:
    """The upstream `cloud`; the scheme of its URL says by which driver."""
    scheme = url.partition(":")[0]
    driver = {"mqtts": "mqtt", "https": "http"}.get(scheme, scheme)
    made = {"name": "cloud", "driver": driver, "url": url, "linger": "100 ms", **options}
    return _table("[[upstream]]", made) + "\n" + _table("[upstream.retry]", retry)


def _source(source_id: str, driver: str, options: Mapping[str, object]) -> str:
    return _table("[[source]]", {"id": source_id, "driver": driver, **options})


def _table(header: str, options: Mapping[str, object]) -> str:
    return "\n".join([header, *(f"{key} = {_toml(value)}" for key, value in options.items()), ""])


def _toml(value: object) -> str:
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)
