"""Runs `outstation` as on a machine whose clock is synchronised, whatever the machine that runs the test says.

python synchronised.py run --config ...
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    from agent.cli import main
    from agent.timekeeping import Synchronisation, synchronisation

    synchronisation.ask_kernel = lambda: Synchronisation("the test", 0.001)
    sys.exit(main(sys.argv[1:]))
