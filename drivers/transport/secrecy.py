"""Takes secrets out of texts that others wrote: what a server answers, what a library says.

A server may repeat what it was sent: the address with its token, a header, the whole request; a library may quote what it could not
send. So a secret is looked for in every form in which it travels or is printed. Pure, but for `Secrecy.read`.

| length | hidden |
| --- | --- |
| from six characters | wherever it stands; and its beginning, where it was cut |
| fewer | where it stands as a word of its own: else hiding `1` would show it |
"""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections import OrderedDict
from html import escape
from json import dumps
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from drivers.transport.secret import Secret

HIDDEN: Final = "<secret>"
"""What stands in the place of one."""
_KNOWN_MAX: Final = 16
"""Those before the last rotation may still be on their way."""
_ANYWHERE_MIN: Final = 6
_ENOUGH: Final = 8
"""So many characters from the beginning of one are too much, where it was cut."""
_BASE64_MIN: Final = 8


class Secrecy:
    """Some secrets, and the art not to show them. Thread-safe: knowing more replaces, hiding reads.

    Args:
        *secrets: Known from the beginning; None is none.
    """

    def __init__(self, *secrets: str | None) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()
        self._forms: tuple[str, ...] = ()
        self._pattern: re.Pattern[str] | None = None
        self.know(*secrets)

    def know(self, *secrets: str | None) -> None:
        """Hide these, too, from now on; of very many, those that were told last."""
        for secret in secrets:
            if secret:
                self._known[secret] = None
                self._known.move_to_end(secret)
        while len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        forms = {form for secret in self._known for form in forms_of(secret) if form}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self._pattern = (
            re.compile("|".join(map(_anywhere_or_word, self._forms)), re.IGNORECASE) if forms else None
        )

    def read(self, secret: Secret | None) -> str | None:
        """The secret, and it is known from now on; None for none. Blocks on the disk.

        Raises:
            SecretError: It cannot be read.
        """
        if secret is None:
            return None
        text = secret.read()
        self.know(text)
        return text

    def hide(self, text: str) -> str:
        """The text without them."""
        if self._pattern is None:
            return text
        hidden = self._pattern.sub(HIDDEN, text)
        for form in self._forms:
            if len(form) >= _ENOUGH:
                hidden = _without_beginnings(hidden, form)
            if len(form) > _ANYWHERE_MIN and (cut := _begun(hidden, form)):
                hidden = f"{hidden[:-cut]}{HIDDEN}"
        return hidden


def _anywhere_or_word(form: str) -> str:
    pattern = re.escape(form)
    return pattern if len(form) >= _ANYWHERE_MIN else rf"(?<!\w){pattern}(?!\w)"


def _without_beginnings(text: str, form: str) -> str:
    """The text without what somebody cut off after so many characters of a form."""
    begin = form[:_ENOUGH]
    parts, at = [], 0
    while (start := text.find(begin, at)) >= 0:
        end = start + _ENOUGH
        while end < len(text) and end - start < len(form) and text[end] == form[end - start]:
            end += 1
        parts += [text[at:start], HIDDEN]
        at = end
    return "".join([*parts, text[at:]])


def _begun(text: str, form: str) -> int:
    """How many characters of a form a text ends with, when there are too few for `_without_beginnings`."""
    lengths = range(min(_ENOUGH, len(form)) - 1, _ANYWHERE_MIN - 1, -1)
    return next((length for length in lengths if text.endswith(form[:length])), 0)


def forms_of(secret: str) -> Iterator[str]:
    """How a secret may stand in a text. Upper and lower case are not told apart there."""
    raw = secret.encode("utf-8", "surrogatepass")
    yield secret
    yield " ".join(secret.split())
    once = quote(raw, safe="")
    yield from (once, quote(raw), quote_plus(raw), quote(once))
    yield from (escape(secret), raw.decode("latin-1"), _misread(secret))
    yield from (dumps(secret)[1:-1], dumps(secret, ensure_ascii=False)[1:-1])
    yield from (repr(secret)[1:-1], ascii(secret)[1:-1], repr(raw)[2:-1])
    yield raw.hex()
    yield from _base64(raw)


def _misread(secret: str) -> str:
    """Written in Latin-1, and read as UTF-8."""
    return secret.encode("latin-1", "replace").decode("utf-8", "replace")


def _base64(raw: bytes) -> Iterator[str]:
    """What base64 makes of it, whatever stands before and behind: of what is shared with neighbours, nothing."""
    for before in range(3):
        bits = 8 * (before + len(raw))
        first, last = -(-8 * before // 6), bits // 6
        padded = bytes(before) + raw
        for encoded in (b64encode(padded), urlsafe_b64encode(padded)):
            inner = encoded[first:last].decode("ascii")
            if len(inner) >= _BASE64_MIN:
                yield inner
    yield from (b64encode(raw).decode("ascii"), urlsafe_b64encode(raw).decode("ascii"))
