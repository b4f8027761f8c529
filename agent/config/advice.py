"""What would be better about a configuration that is right."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.config.model import AgentConfig


@runtime_checkable
class Advising(Protocol):
    """Options of a driver that may be right, and yet not the best."""

    def advice(self, *, refuses_half: bool) -> list[str]:
        """What would be better; the codec may refuse what has lost its beginning."""
        ...


def advice_of(config: AgentConfig) -> Iterator[tuple[str, str]]:
    """Of each source, what would be better. Asks the system: blocks."""
    for source in config.source:
        if isinstance(source.options, Advising):
            for advice in source.options.advice(refuses_half=source.codec.refuses_half):
                yield source.id, advice
