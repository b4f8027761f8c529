"""Requeues the dead letters of a store, and is SIGKILLed at every moment at which something reaches the file system.

    python letters_killed.py CONFIG BUFFER SCRATCH STEP

Child after child works on a copy of BUFFER, each dies one change of the file system later (STEP of them) than the one before it,
and a last one does the rest undisturbed. Prints one JSON object a line for each: after how many changes it died, and what
is in the tables then. The last child that was to die and did not is the end.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from agent.composition import catalogue
from agent.composition.dead_letters import open_dead_letters
from agent.config import load_config
from agent.dead_letters import Order, Selection
from buffer.filesystem import SystemFileSystem
from tests.rigs.stored import documents

CHANGES = ("write", "write_durably", "truncate", "rename", "unlink", "create")


def die_after(changes: int) -> None:
    """Let this process be killed before the change after so many."""
    left = changes

    def dying(name: str) -> Any:
        real = getattr(SystemFileSystem, name)

        def change(*arguments: Any, **named: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return real(*arguments, **named)

        return change

    for name in CHANGES:
        setattr(SystemFileSystem, name, dying(name))


async def requeue(config: Path) -> None:
    loaded = load_config(config, catalogue())
    async with open_dead_letters(loaded) as letters:
        order = Order(do="requeue", selection=Selection())
        while (handled := await letters.carry_out(order)).next is not None:
            order = order.model_copy(update={"after": handled.next, "upto": handled.upto})


def child(config: Path, changes: int | None) -> int:
    """Requeue in a process of its own; how it ended."""
    pid = os.fork()
    if pid == 0:
        if changes is not None:
            die_after(changes)
        asyncio.run(requeue(config))
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def main(config: Path, buffer: Path, scratch: Path, step: int) -> None:
    for changes in range(0, 10_000, step):
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(buffer, scratch)
        died = child(config, changes) != 0
        assert child(config, None) == 0
        told = {
            "changes": changes,
            "died": died,
            "readings": [document["values"] for document in documents(scratch).values()],
            "letters": [
                [reading["values"] for reading in letter.get("readings", ())]
                for letter in documents(scratch, "dead_letters").values()
            ],
        }
        print(json.dumps(told), flush=True)  # noqa: T201 (its result)
        if not died:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
