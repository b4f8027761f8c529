"""No text shows a secret, in whatever form somebody repeats it."""

from __future__ import annotations

import html
import json
from base64 import b64encode, urlsafe_b64encode
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.transport.secrecy import HIDDEN, Secrecy
from drivers.transport.secret import Secret, SecretError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

REPEATED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": lambda s: s.upper() if s.upper().lower() == s.lower() else s,
    "quoted": lambda s: quote(s, safe=""),
    "quoted, in small letters": lambda s: quote(s, safe="").lower(),
    "as a path": quote,
    "as a form": quote_plus,
    "quoted twice": lambda s: quote(quote(s, safe=""), safe=""),
    "as JSON": lambda s: json.dumps({"token": s}),
    "as JSON in UTF-8": lambda s: json.dumps({"token": s}, ensure_ascii=False),
    "in a page": html.escape,
    "by repr": repr,
    "as bytes": lambda s: repr(s.encode()),
    "read as Latin-1": lambda s: s.encode().decode("latin-1"),
    "as hexadecimal": lambda s: s.encode().hex(),
    "as Basic": lambda s: b64encode(f"me:{s}".encode()).decode(),
    "as Basic of a longer name": lambda s: b64encode(f"some:{s}".encode()).decode(),
    "as Basic, safe in a URL": lambda s: urlsafe_b64encode(f"me2:{s}:more".encode()).decode(),
    "as base64": lambda s: b64encode(s.encode()).decode(),
    "with its white space made one": lambda s: " ".join(s.split()),
}

secrets = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=10, max_size=40).filter(
    lambda secret: len(secret.strip()) >= 10
)


@pytest.mark.parametrize("form", REPEATED)
@settings(max_examples=15)
@given(secret=secrets, before=st.text(max_size=5), behind=st.text(max_size=5))
def test_a_secret_is_hidden_in_every_form(form: str, secret: str, before: str, behind: str) -> None:
    said = REPEATED[form](secret)
    shown = Secrecy("another-one", secret).hide(f"{before}{said}{behind}")
    assert HIDDEN in shown
    for each in (secret, said):
        assert each not in shown.replace(HIDDEN, "")


@settings(max_examples=30)
@given(secret=secrets, at=st.integers(6, 39))
def test_a_text_that_was_cut_within_a_secret_shows_nothing_of_it(secret: str, at: int) -> None:
    part = secret[:at]
    said = [f"no such token: {part}"] + [f"not '{part}' ..."] * (at >= 8)
    for text in said:
        shown = Secrecy(secret).hide(text)
        assert HIDDEN in shown
        assert part not in shown


@settings(max_examples=30)
@given(st.text(alphabet="abcdefghij 0123456789", max_size=60))
def test_other_texts_stay_as_they_are(text: str) -> None:
    assert Secrecy("Zq7-Zq7-Zq7", "xyz").hide(text) == text
    assert Secrecy(None, "").hide(text) == text


def test_a_short_secret_is_hidden_as_a_word_only() -> None:
    assert Secrecy("1").hide("401 of 1, /api/1/x") == f"401 of {HIDDEN}, /api/{HIDDEN}/x"


def test_a_rotated_secret_stays_one_and_very_old_ones_are_forgotten() -> None:
    secrecy = Secrecy("first-secret")
    secrecy.know("second-secret")
    assert secrecy.hide("first-secret second-secret") == f"{HIDDEN} {HIDDEN}"
    secrecy.know(*(f"secret-number-{n}" for n in range(16)))
    assert secrecy.hide("first-secret secret-number-0") == f"first-secret {HIDDEN}"


def test_what_is_read_is_known(tmp_path: Path) -> None:
    secrecy = Secrecy()
    (tmp_path / "token").write_text("canary-token\n")
    assert secrecy.read(Secret(file=tmp_path / "token")) == "canary-token"
    assert secrecy.read(None) is None
    assert secrecy.hide("it says canary-token") == f"it says {HIDDEN}"
    with pytest.raises(SecretError):
        secrecy.read(Secret(file=tmp_path / "none"))
