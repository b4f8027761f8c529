"""The composition root: the one place that names concrete drivers, back ends and upstreams, and wires them.

Everything else sees interfaces. What a configuration does not use is not imported.
"""

from agent.composition.agent import Agent
from agent.composition.catalogue import Part, catalogue, list_parts
from agent.composition.parts import create_source, device_id_of, find_codec, open_buffer, socket_path
from agent.composition.recording import options_of, port_options, recording_source, settings_of

__all__ = [
    "Agent",
    "Part",
    "catalogue",
    "create_source",
    "device_id_of",
    "find_codec",
    "list_parts",
    "open_buffer",
    "options_of",
    "port_options",
    "recording_source",
    "settings_of",
    "socket_path",
]
