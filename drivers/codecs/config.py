"""What the configurations of all codecs share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

from drivers.choice import Options

if TYPE_CHECKING:
    from drivers.codecs.model import Codec


class CodecConfig(Options, ABC):
    """A codec and its options, as a configuration names it. Subclasses say their name as the default of `type`."""

    summary: ClassVar[str]
    """What it reads, in one line."""
    example: ClassVar[str]
    """TOML of a source's `codec`."""
    refuses_half: ClassVar[bool] = False
    """Whether it decodes nothing that has lost its beginning."""

    @abstractmethod
    def codec(self) -> Codec:
        """The function that decodes. It takes whatever the codec needs (imports, tables) once."""
