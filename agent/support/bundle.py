"""A support bundle: a tar.gz of texts, each bounded, made of what can be had; what cannot be had is said in it."""

from __future__ import annotations

import io
import tarfile
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Final

from agent.status.text import size

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.support.redaction import Redaction

PART_CHARS_MAX: Final = 2 << 20
"""Of a longer part, the end: the newest lines of a log."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file in it."""

    name: str
    what: str
    text: str


@dataclass
class Bundle:
    """Parts, as they are gathered.

    Args:
        folder: The folder that they are in.
        redaction: Leaves secrets out of all of them.
    """

    folder: str
    redaction: Redaction
    parts: list[Part] = field(default_factory=list)

    def add(self, name: str, what: str, text: str) -> None:
        """Add a part, without secrets."""
        text = self.redaction.text(text)
        if len(text) > PART_CHARS_MAX:
            text = (
                f"(the first {len(text) - PART_CHARS_MAX} characters are left out)\n{text[-PART_CHARS_MAX:]}"
            )
        self.parts.append(Part(name, what, text))

    def add_configuration(self, name: str, text: str) -> None:
        """Add a file of the configuration, without secrets."""
        self.parts.append(
            Part(name, "the configuration, without secrets and comments", self.redaction.configuration(text))
        )

    def lines(self) -> Iterator[str]:
        """What is in it."""
        width = max(len(part.name) for part in self.parts)
        for part in self.parts:
            yield f"{part.name:<{width}}  {size(len(part.text.encode(errors='replace'))):>9}  {part.what}"

    def write(self, file: BinaryIO) -> None:
        """Write it as tar.gz."""
        contents = [
            "What this bundle holds. No readings. Passwords, tokens and keys are left out; messages may quote a few bytes of",
            "what a sensor said. Look through it before you hand it on.",
            "",
            *self.lines(),
            "",
        ]
        parts = [Part("CONTENTS.txt", "", "\n".join(contents)), *self.parts]
        with tarfile.open(fileobj=file, mode="w:gz") as archive:
            for part in parts:
                data = part.text.encode(errors="backslashreplace")
                entry = tarfile.TarInfo(f"{self.folder}/{part.name}")
                entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
                archive.addfile(entry, io.BytesIO(data))
