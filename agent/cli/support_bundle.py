"""`outstation support-bundle`: what others need to see to help, in one file, without secrets and without readings."""

from __future__ import annotations

import io
import os
import sys
import tomllib
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agent import cli
from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.new_file import new_file
from agent.composition import catalogue
from agent.config import ConfigurationError, load_config
from agent.config.files import files_of
from agent.support.bundle import Bundle
from agent.support.machine import journal, versions
from agent.support.redaction import Redaction, variables_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Sequence

_COMMANDS: Final = (
    ("check.txt", "what `outstation check` says", ("check",)),
    ("status.json", "how the agent does", ("status", "--json")),
    ("clock.json", "what it knows about time", ("clock", "--json")),
    ("doctor.json", "what `outstation doctor` finds", ("doctor", "--json")),
    ("buffer-stats.json", "what is in the buffer: numbers only", ("buffer", "stats", "--json")),
    ("buffer-ls.json", "its files: numbers and times only", ("buffer", "ls", "--json")),
)
_PRIVATE: Final = 0o600


def main(arguments: argparse.Namespace) -> int:
    """Make it; say what is in it."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    path = arguments.file or Path(f"outstation-support-{stamp}.tar.gz")
    try:
        with new_file(path, mode=_PRIVATE) as file:
            bundle = _gathered(arguments.config, f"outstation-support-{stamp}")
            bundle.write(file)
    except FileExistsError:
        print(f"{path} is there already: give a new name", file=sys.stderr)
        return WRONG_CONFIGURATION
    except OSError as error:
        print(f"{path}: {error.strerror or error}", file=sys.stderr)
        return FAILED
    print("\n".join(bundle.lines()))
    print(f"\n{path}: no readings, no secrets; look through it before you hand it on")
    return DONE


def _gathered(config: Path, folder: str) -> Bundle:
    files = list(_files(config))
    bundle = Bundle(folder, Redaction(_secrets(config, [text for _, text in files])))
    for name, text in files:
        bundle.add_configuration(f"configuration/{name}.json", text)
    for name, what, words in _COMMANDS:
        bundle.add(name, what, _said(words, config))
    bundle.add("versions.json", "of the program, Python, the system and packages", versions())
    bundle.add("journal.txt", "the newest 2000 lines of the service's log", journal())
    return bundle


def _files(config: Path) -> Iterator[tuple[str, str]]:
    """The files of the configuration."""
    try:
        files = files_of(config)
    except OSError:
        files = [config]
    for file in files:
        name = file.name if file == config else f"conf.d/{file.name}"
        try:
            yield name, file.read_text("utf-8-sig", "replace")
        except OSError as error:
            yield name, f"# {error.strerror}"


def _secrets(config: Path, texts: Sequence[str]) -> Iterator[str]:
    """Every secret of the configuration that can be read, so that it is left out wherever it stands."""
    try:
        secret_files: Iterable[Path] = load_config(config, catalogue()).secret_files
    except ConfigurationError as error:
        secret_files = error.secret_files
    for file in secret_files:
        try:
            text = file.read_text("utf-8", "replace")
        except OSError:
            continue
        yield text.strip()
        yield from filter(None, map(str.strip, text.splitlines()))  # a key of several lines, quoted in part
    for text in texts:
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError):
            continue
        for name in variables_of(document):
            yield os.environ.get(name, "")


def _said(words: Sequence[str], config: Path) -> str:
    """What a command says; where it fails, that as well."""
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        status = cli.main([*words, "--config", str(config)])
    said = out.getvalue()
    if status not in {DONE, FAILED} or not said:
        said += f"(exit status {status}) {errors.getvalue()}"
    return said
