"""What hypothesis draws for the contract's tests."""

import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

EXAMPLES = settings(max_examples=40, deadline=None)
"""Examples share two cores with everything else, so there is no deadline for a single one."""

FEWER = settings(max_examples=15, deadline=None)
"""For tests whose examples wait for somebody's patience to end."""

names = st.text(min_size=1, max_size=20).filter(lambda name: bool(name.strip()))
bad_names: st.SearchStrategy[Any] = st.sampled_from(["", " ", "\t\n", None, 5, b"x", ("x",)])

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text(min_size=1, max_size=8), json_values, min_size=1, max_size=4)

config_values: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["complete", "reconnect", 1, 0.5]),
)
not_configs: st.SearchStrategy[Any] = st.sampled_from([None, [], "interval_s=1", 1, (("interval_s", 1),)])


def configs(keys: list[str]) -> st.SearchStrategy[dict[Any, Any]]:
    """Configurations that are valid now and then."""
    return st.dictionaries(st.sampled_from(keys) | st.text(max_size=5), config_values, max_size=3)


def is_duration(value: object) -> bool:
    """What a time in a registration may be."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return not (isinstance(value, float) and math.isnan(value)) and 0 < value <= 7 * 86400


def is_source_config(config: object) -> bool:
    """What the contract's page says about the configuration of a source, written a second time."""
    if not isinstance(config, dict):
        return False
    checks = {
        "interval_s": lambda value: value is None or is_duration(value),
        "connect_timeout_s": is_duration,
        "when_stream_ends": lambda value: isinstance(value, str) and value in {"complete", "reconnect"},
    }
    return all(key in checks and checks[key](value) for key, value in config.items())


def is_backend_config(config: object) -> bool:
    """Likewise of a back end."""
    if not isinstance(config, dict):
        return False
    checks = {
        "store_timeout_s": lambda value: value is None or is_duration(value),
        "read_only": lambda value: isinstance(value, bool),
    }
    return all(key in checks and checks[key](value) for key, value in config.items())


class OddError(Exception):
    """An error that nobody expects, without a message."""


exceptions: st.SearchStrategy[Exception] = st.sampled_from(
    [
        lambda: ValueError("bad value"),
        lambda: ConnectionError("link lost"),
        lambda: RuntimeError("it failed"),
        lambda: KeyError("missing"),
        TimeoutError,
        lambda: OSError(5, "input/output error"),
        lambda: ZeroDivisionError("division by zero"),
        OddError,
    ]
).map(lambda make: make())
