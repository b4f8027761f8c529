"""`outstation init`: asks a few questions, and writes a configuration."""

from __future__ import annotations

import os
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from agent.cli.exit_status import DONE, FAILED, WRONG_CONFIGURATION
from agent.cli.init.answers import CREDENTIAL, Answers, simulated, text_of
from agent.cli.init.questions import ask_all, broker_source, port_source, upstream_for
from agent.composition import catalogue
from agent.composition.discovery import serial_ports
from agent.config import ConfigurationError, load_config
from agent.config.files import LISTS, files_of
from agent.config.spoilt import BUFFER_PATH
from agent.identity import default_device_id
from collectors.units import parse_duration
from drivers.transport.secret import SECRETS

if TYPE_CHECKING:
    import argparse

    from drivers.discovery import Finding

_LISTEN_S_MAX = 600.0


def main(arguments: argparse.Namespace) -> int:
    """Ask, or take the options; write, and say what comes next."""
    path: Path = arguments.config
    try:
        _require_room(path)
        answers, secret = (_given(arguments), None) if arguments.yes else _asked(arguments)
    except EOFError:
        print("\nnothing was written", file=sys.stderr)
        return FAILED
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG_CONFIGURATION
    return _write(path, answers, secret)


def _require_room(path: Path) -> None:
    """Raises ValueError when it cannot be written, as far as that shows before anything is asked."""
    if path.exists() and not _is_empty_form(path):
        raise ValueError(
            f"{path} exists, and is not overwritten: move it away, or name another with --config"
        )
    if not path.parent.is_dir():
        raise ValueError(f"there is no folder {path.parent}: make it, or name another file with --config")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(
            f"{path.parent} cannot be written to by this user: use sudo, or name another file with --config"
        )


def _is_empty_form(path: Path) -> bool:
    """Whether it is what the installer leaves: a configuration that says nothing of sources and upstreams yet."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        return not document.keys() & {*LISTS} and files_of(path) == [path]
    except (OSError, ValueError):
        return False


def _buffer_path(path: Path) -> str:
    """Where the buffer of a system is, or that of somebody who tries it out."""
    return str(BUFFER_PATH) if path.absolute().is_relative_to("/etc") else "buffer"


def _asked(arguments: argparse.Namespace) -> tuple[Answers, str | None]:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise ValueError("there is no terminal to ask at: give --yes, and what you want as options")
    listen_s = float(parse_duration(arguments.time))
    if not 0 < listen_s <= _LISTEN_S_MAX:
        raise ValueError("--time should be more than nothing, and ten minutes at most")
    print(f"A few questions, then {arguments.config} is written. Enter takes what stands in brackets.\n")
    return ask_all(default_device_id(), serial_ports(), _buffer_path(arguments.config), listen_s)


def _given(arguments: argparse.Namespace) -> Answers:
    sources: list[Finding] = [port_source(port) for port in arguments.port or ()]
    sources += [broker_source(url, arguments.topic or ["sensors/#"]) for url in arguments.mqtt or ()]
    upstream = None
    if arguments.upstream is not None:
        password = arguments.password_file and {"file": str(arguments.password_file.absolute())}
        upstream = upstream_for(
            arguments.upstream, ack=arguments.ack, username=arguments.username, password=password
        )
    return Answers(
        device_id=arguments.device_id,
        sources=sources or [simulated()],
        upstream=upstream,
        buffer_path=arguments.buffer or _buffer_path(arguments.config),
        quota=arguments.quota,
    )


def _write(path: Path, answers: Answers, secret: str | None) -> int:
    """Write it under its name once it is known to be right."""
    secret_path = path.parent / SECRETS / CREDENTIAL
    kept_secret = False
    try:
        if secret is not None:
            _write_secret(secret_path, secret)
            kept_secret = True
        _write_checked(path, text_of(answers, path, default_device_id()))
    except (ValueError, OSError) as error:
        if kept_secret:
            secret_path.unlink()
        print(f"{path} is not written: {error}", file=sys.stderr)
        return WRONG_CONFIGURATION if isinstance(error, ValueError) else FAILED
    print(f"\n{path} is written." + (f" The secret is in {secret_path}." if kept_secret else ""))
    print(f"Look through it, then:\n  outstation check --config {path}\n  outstation run --config {path}")
    return DONE


def _write_secret(path: Path, secret: str) -> None:
    path.parent.mkdir(mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor)
        file.write(secret + "\n")


def _kept(path: Path) -> Path:
    """Where the empty form that was there is kept."""
    return path.with_name(f"{path.name}.before-init")


def _write_checked(path: Path, text: str) -> None:
    """Write it where `check` sees it as it will be, and give it its name if it is right.

    Raises:
        ValueError: It is not, with what stands in the files of `conf.d`.
        OSError: It cannot be written, or somebody has written one meanwhile.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(handle, "w", encoding="utf-8") as file:  # noqa: PTH123 (a descriptor)
            file.write(text)
            file.flush()
            os.fsync(handle)
        Path(name).chmod(0o644)
        load_config(Path(name), catalogue(), check_files=True)
        if path.exists() and _is_empty_form(path):
            path.rename(_kept(path))
            print(f"\n{path} named no source yet: it is {_kept(path)} now.")
        os.link(name, path)  # fails when there is one
    except ConfigurationError as error:
        raise ValueError(str(error).replace(Path(name).name, path.name)) from error
    finally:
        Path(name).unlink()
