"""Asks on a terminal. Each question has a default, which Enter takes."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def ask(question: str, default: str = "", *, wrong: Callable[[str], str | None] = lambda _: None) -> str:
    """The answer to a question; asked again while it is wrong.

    Args:
        question: What is asked.
        default: What Enter means.
        wrong: Says what is wrong with an answer; None when nothing is.
    """
    prompt = f"{question} [{default}]: " if default else f"{question}: "
    while True:
        answer = input(prompt).strip() or default
        complaint = wrong(answer)
        if complaint is None:
            return answer
        print(f"  {complaint}")


def confirm(question: str, *, default: bool = True) -> bool:
    """Whether the answer is yes."""
    prompt = f"{question} [{'Y/n' if default else 'y/N'}]: "
    while True:
        answer = input(prompt).strip().lower()
        if not answer:
            return default
        if answer in {"y", "yes", "n", "no"}:
            return answer.startswith("y")
        print("  y or n, please")


def choose(question: str, choices: Sequence[str], none: str) -> int | None:
    """Which of several; None for none of them, which is what Enter means."""
    print(question)
    for number, choice in enumerate(choices, start=1):
        print(f"  {number}  {choice}")
    while True:
        answer = input(f"Number, or Enter for {none}: ").strip()
        if not answer:
            return None
        if answer.isascii() and answer.isdecimal() and 1 <= int(answer) <= len(choices):
            return int(answer) - 1
        print(f"  a number from 1 to {len(choices)}, please")


def ask_secret(question: str) -> str:
    """An answer that is not shown while it is typed; empty for none."""
    return getpass.getpass(f"{question}: ").strip()
