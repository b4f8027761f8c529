"""Leaves secrets out of texts. Pure: texts in, texts out.

A secret is left out by where it stands (a key that is called so, the password of a URL) and by what it is: every secret that
can be read is looked for in everything. A configuration is told key by key, without its comments, which may hold anything;
of one that is no TOML any more only the keys are told.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from drivers.transport.secrecy import forms_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

LEFT_OUT: Final = "(left out)"
PLACES: Final = frozenset({"file", "env", "credential"})
"""The keys of a table that says where a secret is."""
_SECRET_KEY: Final = re.compile(
    r"passw|passphrase|token|secret|credential|psk|(^|[_-])(key|pin|pwd|auth|sig)$|^apikey$|api[_-]?key",
    re.IGNORECASE,
)
_USER_INFO: Final = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://)[^/@\s\"']*@", re.IGNORECASE)
_QUERY: Final = re.compile(r"(\b[a-z][a-z0-9+.-]{0,20}://[^\s\"'?#]*\?)[^\s\"'#]+", re.IGNORECASE)
_THINGSBOARD_TOKEN: Final = re.compile(r"(/api/v1/)[^/\s\"']+(/telemetry)")
_ASSIGNED: Final = re.compile(
    # What a configuration is told about itself: `upstream[0].token: there is no file ...`. It quotes no secret.
    r"(?P<told>\b[a-z]\w*\[\d+\][\w.\[\]-]*:\s)"
    r"|(?P<before>(?:password|passwd|token|secret|api[_-]?key)[\"']?\s*[:=]\s*[\"']?|(?:bearer|basic)\s+)(?!`\w+`)[^\s\"',;{\[]+",
    re.IGNORECASE,
)
_HEADING: Final = re.compile(r"\s*(\[+[^\]\n\"'=]*\]+)\s*(#.*)?")
_KEY: Final = re.compile(r"\s*([A-Za-z0-9_.-]+)\s*=")
_KNOWN_CHARS_MIN: Final = 4
"""Shorter ones occur everywhere by chance."""


class Redaction:
    """Leaves out what is known to be secret.

    Args:
        secrets: Every secret that could be read.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        known = {form for each in secrets for form in forms_of(each) if len(form) >= _KNOWN_CHARS_MIN}
        forms = sorted(known, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, forms)), re.IGNORECASE) if forms else None

    def text(self, text: str) -> str:
        """A text without secrets."""
        text = _USER_INFO.sub(rf"\1{LEFT_OUT}@", text)
        text = _QUERY.sub(rf"\1{LEFT_OUT}", text)
        text = _THINGSBOARD_TOKEN.sub(rf"\1{LEFT_OUT}\2", text)
        text = _ASSIGNED.sub(lambda found: found["told"] or f"{found['before']}{LEFT_OUT}", text)
        return self.known(text)

    def known(self, text: str) -> str:
        """A text without those that are known."""
        return text if self._known is None else self._known.sub(LEFT_OUT, text)

    def configuration(self, text: str) -> str:
        """A configuration without secrets and comments: as JSON; of what is no TOML, the keys."""
        try:
            document = tomllib.loads(text)
        except (ValueError, RecursionError):
            return "no TOML; its keys are:\n" + "\n".join(_keys(text)) + "\n"
        shown = json.dumps(_without(document), indent=2, default=str, ensure_ascii=False)
        shown = _THINGSBOARD_TOKEN.sub(rf"\1{LEFT_OUT}\2", shown)
        return self.known(_QUERY.sub(rf"\1{LEFT_OUT}", _USER_INFO.sub(rf"\1{LEFT_OUT}@", shown))) + "\n"


def _without(value: Any, *, secret: bool = False) -> Any:
    if isinstance(value, dict):
        if (
            secret
            and value
            and value.keys() <= PLACES
            and all(isinstance(each, str) for each in value.values())
        ):
            return value  # where it is, not what it is
        return {
            key: _without(inner, secret=secret or _SECRET_KEY.search(key) is not None)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_without(inner, secret=secret) for inner in value]
    return LEFT_OUT if secret else value


def _keys(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if (heading := _HEADING.fullmatch(line)) is not None:
            yield heading[1]
        elif (key := _KEY.match(line)) is not None:
            yield f"{key[1]} = {LEFT_OUT}"


def variables_of(document: Mapping[str, Any]) -> Iterator[str]:
    """The variables of the environment that hold secrets of a configuration."""
    for value in document.values():
        tables = value if isinstance(value, list) else [value]
        for table in tables:
            if isinstance(table, dict):
                if table.keys() == {"env"} and isinstance(table["env"], str):
                    yield table["env"]
                yield from variables_of(table)
