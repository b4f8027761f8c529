"""A secret of a configuration: where it is, never what it is.

password = { file = "password" }               # a file, relative to the folder of the configuration
password = { env = "CLOUD_PASSWORD" }          # a variable of the environment
password = { credential = "cloud-password" }   # systemd's LoadCredential= or SetCredential=; as installed: a file in
                                               # /etc/outstation/secrets

It is read when a connection is made, so that a rotated one is used. Nothing here shows it: not the object's repr, not a
message. Everything here blocks on the disk: it is for a thread.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from pydantic import BaseModel, ConfigDict, PrivateAttr, ValidationInfo, model_validator

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS: Final = "secrets"
"""The folder of credentials that the service is given: LoadCredential=secrets:/etc/outstation/secrets."""
SECRET_BYTES_MAX: Final = 64 << 10
"""More is no secret, but a file that was mistaken for one."""
_VARIABLE: Final = re.compile(r"[A-Z_][A-Z0-9_]*")
_EXAMPLES: Final = '{ file = "..." }, { env = "..." } or { credential = "..." }'
_MARK_KEY: Final = os.urandom(32)


class SecretError(OSError):
    """A secret that is not there, or cannot be read; the message says where it was looked for, and what would be right."""


class Secret(BaseModel):
    """Where a secret is: one of these."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        defer_build=True,
        json_schema_extra={"minProperties": 1, "maxProperties": 1},
    )

    file: Path | None = None
    """The file that holds it, without quotes; a newline at its end does not count."""
    env: str | None = None
    """The variable of the environment that holds it."""
    credential: str | None = None
    """The name of a credential that systemd hands to the service (LoadCredential=, SetCredential=)."""
    _beside: Path | None = PrivateAttr(default=None)
    """The folder `secrets` beside the configuration, where a credential is looked for when systemd did not start us."""
    _mark: bytes | None = PrivateAttr(default=None)
    """Another one for another secret, so that a configuration whose secret has changed is another one."""

    @model_validator(mode="before")
    @classmethod
    def _is_a_place(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f"a secret does not stand in the configuration; say where it is: {_EXAMPLES}")
        return value

    @model_validator(mode="after")
    def _found(self, info: ValidationInfo) -> Self:
        """One place; as the context says: relative to its `folder`, there (`check_files`), noted (`note_secrets`).

        Raises:
            ValueError: There is none, or more than one; or the secret is not there.
        """
        places = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if not places:
            raise ValueError(f"say where the secret is: {_EXAMPLES}")
        if len(places) > 1:
            raise ValueError(f"`{'` and `'.join(places)}` say two places of one secret; keep one of them")
        if self.env is not None and not _VARIABLE.fullmatch(self.env):
            raise ValueError(
                "`env` is the name of a variable, not its value: capitals, digits and _, such as CLOUD_PASSWORD"
            )
        if self.credential is not None and ("/" in self.credential or self.credential in {"", ".", ".."}):
            raise ValueError("`credential` is a name, as in LoadCredential=name:/path, not a path")
        context = info.context or {}
        if self.file is not None and "folder" in context:
            object.__setattr__(self, "file", context["folder"] / self.file)
        if self.credential is not None and "folder" in context:
            self._beside = context["folder"] / SECRETS
        if "secret_files" in context:
            context["secret_files"] += self._files()
        if context.get("note_secrets") or context.get("check_files"):
            self._note(must=bool(context.get("check_files")))
        return self

    def _note(self, *, must: bool) -> None:
        try:
            text = self.read()
        except SecretError as error:
            if must:
                raise ValueError(str(error)) from None
        else:
            self._mark = blake2b(text.encode(), key=_MARK_KEY, digest_size=16).digest()

    def _files(self) -> list[Path]:
        """Every file that it may be in."""
        if self.file is not None:
            return [self.file]
        return [] if self.credential is None else list(self._credential_paths(self.credential))

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        if self.file is not None:
            return str(self.file)
        return f"the variable {self.env}" if self.env is not None else f"the credential {self.credential}"

    def read(self) -> str:
        """The secret, without the newline that editors add.

        Raises:
            SecretError: It is not there, cannot be read, or is empty.
        """
        if self.env is not None:
            text = os.environ.get(self.env)
            if text is None:
                raise SecretError(
                    f"there is no variable {self.env} in the environment; under systemd: EnvironmentFile="
                )
        else:
            text = _text_of(self._path())
        text = text.rstrip("\r\n")
        if not text:
            raise SecretError(f"{self.place} is empty")
        return text

    def _path(self) -> Path:
        if self.credential is None:
            assert self.file is not None
            return self.file
        for path in self._credential_paths(self.credential):
            if os.path.exists(path):  # noqa: PTH110 (Path's raises where the user may not look)
                return path
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder:
            raise SecretError(
                f"there is no credential {self.credential} in {folder};"
                f" in the unit: LoadCredential={self.credential}:/path"
            )
        raise SecretError(
            f"there is no credential {self.credential}: systemd hands none to this program"
            f" (in its unit: LoadCredential={self.credential}:/path),"
            f" and there is no {self._beside / self.credential if self._beside else SECRETS}"
        )

    def _credential_paths(self, name: str) -> Iterator[Path]:
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder:
            # LoadCredential= of a whole folder puts its own name before those of the files (systemd.exec(5)).
            yield from (Path(folder) / name, Path(folder) / f"{SECRETS}_{name}")
        elif self._beside is not None:
            yield self._beside / name

    @contextmanager
    def as_file(self) -> Iterator[str]:
        """The path of a file that holds it, for a library that takes nothing else.

        What is not in a file already is put into one in memory that has no name and ends with the block.

        Raises:
            SecretError: It is not there, or cannot be read.
        """
        text = self.read()
        if self.env is None:
            yield str(self._path())
            return
        handle = os.memfd_create("secret")
        try:
            with open(handle, "w", encoding="utf-8", closefd=False) as file:
                file.write(text)
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(SECRET_BYTES_MAX + 1)
    except FileNotFoundError:
        raise SecretError(f"there is no file {path}") from None
    except PermissionError:
        raise SecretError(f"{path} cannot be read by this user: chown or chmod it") from None
    except (OSError, ValueError) as error:  # a name that is too long, or none
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise SecretError(f"{path} cannot be read: {reason}") from None
    if len(raw) > SECRET_BYTES_MAX:
        raise SecretError(f"{path} is longer than {SECRET_BYTES_MAX} bytes: it is no secret")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise SecretError(f"{path} is not UTF-8 text") from None
