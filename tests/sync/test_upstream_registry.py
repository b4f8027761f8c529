"""Upstreams by name; what one needs is not imported for another."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from agent.sync import registry
from agent.sync.config import HttpUpstreamOptions, MqttUpstreamOptions, NatsUpstreamOptions, UpstreamOptions
from collectors.clock import SystemClock

if TYPE_CHECKING:
    from agent.sync.upstream import Upstream


def test_names_and_options() -> None:
    assert {"http", "mqtt", "nats"} == registry.UPSTREAMS
    assert registry.load_options_class("http") is HttpUpstreamOptions
    assert registry.load_options_class("mqtt") is MqttUpstreamOptions
    with pytest.raises(KeyError):
        registry.load_options_class("carrier pigeon")


def test_each_makes_its_own_upstream() -> None:
    made: list[Upstream] = [
        registry.create_upstream(HttpUpstreamOptions(url="https://host/x"), "d", SystemClock()),
        registry.create_upstream(
            MqttUpstreamOptions(url="mqtts://me@host", username="me"), "d", SystemClock()
        ),
        registry.create_upstream(NatsUpstreamOptions(url="tls://one,two"), "d", SystemClock()),
    ]
    assert [upstream.name for upstream in made] == ["https://host/x", "mqtts://host", "tls://one,two"]
    assert [upstream.lasting for upstream in made] == [False, True, True]
    with pytest.raises(TypeError, match="no upstream takes UpstreamOptions"):
        registry.create_upstream(UpstreamOptions(url="https://x"), "d", SystemClock())


def test_a_configuration_that_needs_what_is_not_installed_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ValidationError, match=r'pip install "outstation\[http\]"'):
        HttpUpstreamOptions(url="https://host/x")


@pytest.mark.parametrize(
    ("code", "absent"),
    [
        (
            "import agent.sync.registry as r; r.load_options_class('mqtt')(url='mqtts://h')",
            "aiohttp paho aiomqtt nats agent.sync.line_protocol agent.sync.thingsboard",
        ),
        ("import agent.sync.mqtt_upstream", "aiohttp nats"),
        ("import agent.sync.http_upstream", "paho aiomqtt nats"),
        ("import agent.receiver.service", "aiohttp paho aiomqtt"),
        ("import agent.sync.sender", "agent.sync.documents"),
    ],
)
def test_nobody_pays_for_what_he_does_not_use(code: str, absent: str) -> None:
    check = f"{code}; import sys; print([m for m in '{absent}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
