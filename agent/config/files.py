"""The files of a configuration: the one that is named, and those in the folder `conf.d` beside it.

The files of `conf.d` that end with `.toml` are read in the order of their names. Each may add sources, pipelines and
upstreams, and set keys of the other sections; but no key is set twice, whichever file it stands in: of two files, none
silently wins over the other.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from agent.config.errors import ConfigurationError, Problem, key_path
from agent.config.places import line_of, lines_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

FOLDER: Final = "conf.d"
LISTS: Final = ("source", "pipeline", "upstream")
"""The sections that are lists of tables: each file adds to them."""

_AT: Final = re.compile(r" \(at (line (?P<line>\d+), column (?P<column>\d+)|end of document)\)$")
_REASONS: Final = (
    (r"Invalid hex value|Escaped character is not a Unicode scalar value.*", r"a backslash in a text is written as \\\\, or the text in 'single quotes'"),
    (r"Cannot overwrite a value", "this key is set above already: keep one of them"),
    (r"Duplicate inline table key (.*)", r"\1 is set twice in this table: keep one of them"),
    (r"Cannot declare \((.*?),?\) twice", r"the table \1 begins twice: write all its keys below one heading"),
    (r"Cannot mutate immutable namespace .*", "this adds to a table or list that is complete already"),
    (r"Cannot redefine namespace .*", "this adds to a table or list that is complete already"),
    (r"Expected '=' after a key in a key/value pair", "a key is followed by = and its value"),
    (r"Invalid value", 'the value is none that TOML knows: text stands in quotes, "like this", and truth is true or false'),
    (r"Invalid initial character for a key part", "a key or a heading is missing here, or begins with a character that no key has"),
    (r"Invalid statement", "this is no key with a value, and no heading such as [buffer] or [[source]]"),
    (
        r"Expected newline or end of document after a statement",
        'something stands behind the value: text, such as "2 GB" or "30 s", stands in quotes',
    ),
    (r"Expected ('\]+') at the end of (a table|an array) declaration", r"the heading is not closed: \1 is missing"),
    (r"Unclosed array", "a list is not closed: ] or a comma is missing"),
    (r"Unclosed inline table", "a table is not closed: } or a comma is missing"),
    (r"Unterminated string", "a text is not closed: its quote is missing"),
    (r"Illegal character '\\n'", "a text is not closed: its quote is missing at the end of this line"),
    (r"Unescaped '\\' in a string", r"a backslash in a text is written as \\, or the text in 'single quotes'"),
    (r"Expected \"(.*)\"", r"a text is not closed: \1 is missing"),
)  # fmt: skip
"""What `tomllib` says, and what it means for whoever wrote the file."""


@dataclass(slots=True)
class Document:
    """One file that was read."""

    path: Path
    name: str
    """As messages call it: from the folder of the configuration."""
    text: str
    tables: dict[str, Any]
    _lines: dict[tuple[str | int, ...], int] | None = None

    def place(self, path: Sequence[str | int]) -> str:
        """`outstation.toml:12`: where a key stands, or the table that it is missing from."""
        if self._lines is None:
            self._lines = lines_of(self.text)
        line = line_of(self._lines, path)
        return self.name if line is None else f"{self.name}:{line}"


def files_of(path: Path) -> list[Path]:
    """The file, and those of `conf.d` beside it, in the order in which they count.

    Raises:
        OSError: The folder cannot be read.
    """
    try:
        found = sorted((path.parent / FOLDER).iterdir())
    except (FileNotFoundError, NotADirectoryError):
        found = []
    return [path, *(each for each in found if each.suffix == ".toml" and not each.name.startswith("."))]


def read_documents(path: Path) -> list[Document]:
    """All files of a configuration.

    Raises:
        ConfigurationError: One cannot be read, or is not TOML; holds what is wrong with each of them.
    """
    try:
        files = files_of(path)
    except OSError as error:
        raise ConfigurationError(
            [Problem("file", f"the folder {FOLDER} cannot be read: {error.strerror}")], str(path)
        ) from error
    documents: list[Document] = []
    problems: list[Problem] = []
    for file in files:
        name = file.name if file is path else f"{FOLDER}/{file.name}"
        read = _read(file, name)
        if isinstance(read, Problem):
            problems.append(read)
        else:
            documents.append(read)
    if problems:
        raise ConfigurationError(problems, str(path))
    return documents


def _read(path: Path, name: str) -> Document | Problem:
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors mark UTF-8
    except FileNotFoundError:
        return Problem("file", f"there is no file {path}; give one with --config FILE", place=name)
    except OSError as error:
        return Problem("file", f"cannot be read: {error.strerror}", place=name)
    except UnicodeDecodeError as error:
        message = "is not UTF-8 text from here on: save the file as UTF-8"
        line = error.object[: error.start].count(b"\n") + 1
        return Problem("file", message, place=f"{name}:{line}")
    try:
        return Document(path, name, text, tomllib.loads(text))
    except RecursionError:
        return Problem("file", "is not TOML: lists or tables are nested too deeply", place=name)
    except ValueError as error:  # tomllib lets numbers beyond Python's limits through
        return _not_toml(str(error), name, text)


def _not_toml(said: str, name: str, text: str) -> Problem:
    reason = _AT.sub("", said)
    at = _AT.search(said)
    if at is not None and at["line"] and text.split("\n")[int(at["line"]) - 1].lstrip().startswith("[["):
        reason = reason.replace(
            "Cannot overwrite a value", "a table above has this name: write [[...]] there as well"
        )
    for pattern, meaning in _REASONS:
        if (match := re.match(pattern, reason)) is not None:
            reason = match.expand(meaning)
            break
    if at is None:
        return Problem("file", f"is not TOML: {reason}", place=name)
    if at["line"] is None:
        line = text.count("\n") + (not text.endswith("\n"))
        return Problem("file", f"is not TOML: {reason}, up to the end of the file", place=f"{name}:{line}")
    return Problem("file", f"is not TOML: {reason} (column {at['column']})", place=f"{name}:{at['line']}")


@dataclass(slots=True)
class Merged:
    """What all files say together."""

    documents: list[Document]
    tables: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    _items: dict[tuple[str, int], tuple[Document, int]] = field(default_factory=dict)
    """Where each table of a list is: its file, and which it is there."""
    _setters: dict[tuple[str, ...], Document] = field(default_factory=dict)

    def origin(self, path: Sequence[str | int]) -> tuple[Document, list[str | int]]:
        """The file of a key, and its path in that file."""
        match list(path):
            case [str(section), int(index), *rest] if (section, index) in self._items:
                document, own = self._items[section, index]
                return document, [section, own, *rest]
            case parts:
                for length in range(len(parts), 0, -1):
                    setter = self._setters.get(tuple(map(str, parts[:length])))
                    if setter is not None:
                        return setter, parts
                return self.documents[0], parts

    def named(self, path: Sequence[str | int]) -> str:
        """`source[1] (conf.d/hall.toml:3)`."""
        document, own = self.origin(path)
        return f"{key_path(own)} ({document.place(own)})"

    def problem(self, path: Sequence[str | int], message: str, value: str | None = None) -> Problem:
        """What is wrong with a key, in its file."""
        document, own = self.origin(path)
        return Problem(key_path(own), message, value, document.place(own))


def merge(documents: list[Document]) -> Merged:
    """Put the files together; `problems` says what is set twice, or is no list of tables."""
    merged = Merged(documents)
    for document in documents:
        for section, value in document.tables.items():
            if section in LISTS:
                _extend(merged, document, section, value)
            else:
                _set(merged, document, merged.tables, (section,), value)
    return merged


def _extend(merged: Merged, document: Document, section: str, value: Any) -> None:
    whole = merged.tables.setdefault(section, [])
    if not isinstance(value, list):
        message = f"should be a list of tables; write [[{section}]] above each"
        merged.problems.append(Problem(section, message, None, document.place([section])))
        return
    for own, item in enumerate(value):
        merged._items[section, len(whole)] = (document, own)  # noqa: SLF001 (it is being made)
        whole.append(item)


def _set(merged: Merged, document: Document, into: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    key = path[-1]
    setters = merged._setters  # noqa: SLF001 (likewise)
    if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
        setters.setdefault(path, document)
        own = into.setdefault(key, {})
        for name, item in value.items():
            _set(merged, document, own, (*path, name), item)
    elif key in into:
        other = setters[path]
        message = f"is set in {other.place(path)} already: no file overrules another, so keep one of them"
        merged.problems.append(Problem(key_path(path), message, None, document.place(path)))
    else:
        setters[path] = document
        into[key] = value
