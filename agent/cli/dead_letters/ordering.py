"""`outstation dead-letters requeue` and `drop`: by the agent, if it runs, else in the buffer that it left."""

from __future__ import annotations

import asyncio
import sys
from collections import defaultdict
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from agent.cli.exit_status import DONE, FAILED
from agent.composition.dead_letters import open_dead_letters
from agent.dead_letters import Handled, Order
from agent.status.socket import AgentNotRunningError, RefusedError, ask_status, give_order
from agent.status.text import counted

if TYPE_CHECKING:
    import argparse
    from collections.abc import AsyncIterator, Awaitable, Callable

    from agent.config import AgentConfig
    from agent.dead_letters import Selection

_REASONS_SHOWN: Final = 10
_IDS_SHOWN: Final = 5


class _Sum:
    """What became of all of them."""

    def __init__(self) -> None:
        self.taken = self.sending = self.left = 0
        self.reasons: defaultdict[str, list[int]] = defaultdict(list)

    @property
    def nothing(self) -> bool:
        """Whether there was none."""
        return not (self.taken or self.sending or self.left)

    def add(self, handled: Handled) -> None:
        """Add a part."""
        self.taken += handled.taken
        self.sending += handled.sending
        self.left += len(handled.left)
        for letter_id, reason in handled.left:
            if reason in self.reasons or len(self.reasons) < _REASONS_SHOWN:
                self.reasons[reason].append(letter_id)


def run(arguments: argparse.Namespace, config: AgentConfig, selection: Selection) -> int:
    """Have it done; 1 when some stay, or none has the ids that were given."""
    done = _Sum()
    try:
        running = asyncio.run(_all(config, Order(do=arguments.action, selection=selection), done))
    except (AgentNotRunningError, RefusedError) as error:
        print(error, file=sys.stderr)
        _tell(arguments.action, done, running=True)
        return FAILED
    if selection.ids and done.nothing:
        on_way = ", or it is on its way already" if arguments.action == "requeue" else ""
        print(f"there is no such dead letter{on_way}", file=sys.stderr)
        return FAILED
    _tell(arguments.action, done, running=running)
    return FAILED if done.left else DONE


async def _all(config: AgentConfig, order: Order, done: _Sum) -> bool:
    """Carry an order out, part by part; whether an agent did it."""
    async with _office(config) as (carry_out, running):
        while True:
            handled = await carry_out(order)
            done.add(handled)
            if handled.next is None:
                return running
            order = order.model_copy(update={"after": handled.next, "upto": handled.upto})


@asynccontextmanager
async def _office(
    config: AgentConfig,
) -> AsyncIterator[tuple[Callable[[Order], Awaitable[Handled]], bool]]:
    """Who carries orders out: the agent that runs, or else this program; and whether it is the agent."""
    try:
        await ask_status(config.socket)
    except AgentNotRunningError:
        async with open_dead_letters(config) as letters:
            yield letters.carry_out, False
        return
    yield partial(_order, config), True


async def _order(config: AgentConfig, order: Order) -> Handled:
    return Handled.model_validate_json(await give_order(config.socket, "dead_letters", order))


def _tell(action: str, done: _Sum, *, running: bool) -> None:
    if action == "drop":
        print(f"{counted(done.taken, 'dead letter')} dropped")
        return
    print(f"{counted(done.taken, 'dead letter')} taken again")
    if done.sending:
        when = "" if running else ", once the agent runs"
        print(f"{counted(done.sending, 'dead letter')} on the way to their upstream{when}")
    if not done.left:
        return
    print(f"{counted(done.left, 'dead letter')} left alone:")
    for reason, ids in done.reasons.items():
        more = f" and {len(ids) - _IDS_SHOWN:,} more" if len(ids) > _IDS_SHOWN else ""
        print(f"  {', '.join(map(str, ids[:_IDS_SHOWN]))}{more}: {reason}")
    told = sum(map(len, done.reasons.values()))
    if told < done.left:
        print(f"  {done.left - told:,} more for other reasons")
