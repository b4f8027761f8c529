"""The configuration: one TOML file, checked whole before anything starts."""

from agent.config.errors import ConfigurationError, Problem
from agent.config.load import Catalogue, Kind, load_config
from agent.config.model import (
    AgentConfig,
    AgentSection,
    BufferConfig,
    DeviceConfig,
    PipelineConfig,
    SourceConfig,
    StepConfig,
    UpstreamConfig,
)
from agent.config.spoilt import socket_named_in

__all__ = [
    "AgentConfig",
    "AgentSection",
    "BufferConfig",
    "Catalogue",
    "ConfigurationError",
    "DeviceConfig",
    "Kind",
    "PipelineConfig",
    "Problem",
    "SourceConfig",
    "StepConfig",
    "UpstreamConfig",
    "load_config",
    "socket_named_in",
]
