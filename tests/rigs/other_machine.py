"""Runs `outstation` on what it takes for another machine.

python other_machine.py NAME run --config ...
"""

from __future__ import annotations

import hashlib
import sys

from agent.cli import main
from agent.composition import parts


def move_to(name: str) -> None:
    """Let the machine's fingerprint be another."""
    parts.machine_fingerprint = lambda: hashlib.sha256(name.encode()).hexdigest()[:32]


if __name__ == "__main__":
    move_to(sys.argv[1])
    sys.exit(main(sys.argv[2:]))
