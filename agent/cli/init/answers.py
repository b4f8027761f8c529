"""What a first configuration is to say, and its text, with comments for whoever changes it next."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent.discover.text import table, toml
from drivers.discovery import Finding

if TYPE_CHECKING:
    from pathlib import Path

CREDENTIAL: Final = "upstream"
"""Of the credential that holds the password or token for the upstream."""

_HEAD: Final = """\
# The configuration of this device, written by `outstation init`.
#
# Whether it is right says, after each change:  {check}
# A running agent takes it over at SIGHUP.
#
# What ends with .toml in the folder conf.d beside it is read as well. Every key is explained in docs/configuration.md; an
# editor completes them with the help of `outstation schema`.
"""
_DEVICE: Final = """\
# Names the device in everything that it delivers. Unset, the name is derived from the machine: {default}
"""
_STEPS: Final = """\
# ---- What happens to readings on the device: nothing yet. This, for one, would keep a value only when it moved:
#
# [[pipeline]]
# sources = ["{source}"]
#
# [[pipeline.step]]
# processor = "deadband"
# metric = "temperature"
# width = 0.1
"""
_BUFFER: Final = """\
# ---- Where readings are kept until they are delivered, and for some days after that
"""
_QUOTA: Final = """\
# How much they may take on the disk. Unset, all but a reserve of 64 MiB. When it is reached, delivered readings go first,
# then the oldest; `full` says otherwise.
"""
_NO_UPSTREAM: Final = """\
# ---- Where readings go: nowhere yet, they are kept here. Such as:
#
# [[upstream]]
# driver = "mqtt"
# url = "mqtts://broker.example.com:8883"
# username = "{device}"
# password = {{ credential = "upstream" }}    # the file secrets/upstream beside this one
"""

_UPSTREAM: Final = """\
# ---- Where readings go
#
# `ack` says whose acknowledgement counts: "receiver" waits until `outstation receive` has committed; "broker" (MQTT) and
# "server" (HTTP) are for other ends.
[[upstream]]
"""


@dataclass(slots=True)
class Answers:
    """What was answered."""

    device_id: str | None = None
    """None: derived from the machine."""
    sources: list[Finding] = field(default_factory=list)
    upstream: dict[str, Any] | None = None
    """Its keys; None: none yet."""
    buffer_path: str = "buffer"
    quota: str | None = None


def simulated() -> Finding:
    """A source for trying it out."""
    signals = [{"name": "temperature", "kind": "sine", "mean": 21, "amplitude": 3, "noise": 0.05}]
    return Finding(
        "A simulated sensor, to see how it goes: put yours in its place",
        {"id": "simulated", "driver": "simulated", "rate": 1, "signals": signals},
    )


def text_of(answers: Answers, path: Path, default_id: str) -> str:
    """The configuration.

    Args:
        answers: What it is to say.
        path: Where it will be.
        default_id: The id that the device has when none is set.
    """
    device = _DEVICE.format(default=default_id) + "[device]\n"
    device += '# id = "greenhouse-3"\n' if answers.device_id is None else table({"id": answers.device_id})
    buffer = _BUFFER + "[buffer]\n" + table({"path": answers.buffer_path}) + _QUOTA
    buffer += '# quota = "2 GB"\n' if answers.quota is None else table({"quota": answers.quota})
    if answers.upstream is None:
        upstream = _NO_UPSTREAM.format(device=answers.device_id or default_id)
    else:
        upstream = _UPSTREAM + table(answers.upstream)
    parts = [
        _HEAD.format(check=f"outstation check --config {path}"),
        device,
        "# ---- Where readings come from\n\n" + toml(answers.sources),
        _STEPS.format(source=next(each.source["id"] for each in answers.sources if each.source is not None)),
        buffer,
        upstream,
    ]
    return "\n".join(parts)
