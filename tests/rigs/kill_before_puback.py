"""Runs `outstation` so that it SIGKILLs itself between a commit and its PUBACK.

    python kill_before_puback.py N FILE run --config ...

The first acknowledgement after the N-th is not given: the process notes in FILE which message was to be
acknowledged (`packet_id topic payload`), and dies. It is called only when the reading is committed.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli import main
from drivers.mqtt.source import MqttSource

if TYPE_CHECKING:
    from collections.abc import Hashable

    from drivers.transport.mqtt import InboundMessage


def arm(after: int, note: Path) -> None:
    """Let the process die at the acknowledgement after so many."""
    acknowledge = MqttSource.acknowledge
    given = 0

    def acknowledge_or_die(self: MqttSource, token: Hashable) -> None:
        nonlocal given
        if given >= after:
            message: InboundMessage = token  # type: ignore[assignment]
            note.write_bytes(f"{message.packet_id} {message.topic} ".encode() + message.payload)
            os.kill(os.getpid(), signal.SIGKILL)
        given += 1
        acknowledge(self, token)

    MqttSource.acknowledge = acknowledge_or_die  # type: ignore[method-assign]


if __name__ == "__main__":
    arm(int(sys.argv[1]), Path(sys.argv[2]))
    sys.exit(main(sys.argv[3:]))
