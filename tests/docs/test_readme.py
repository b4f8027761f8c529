"""README stays true: its configurations load, its commands exist, its links lead somewhere."""

import re
import shlex
from pathlib import Path

import pytest

from agent.cli import build_parser
from agent.composition import catalogue
from agent.config import load_config

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "firmware-notes").glob("*.md")),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list:
    return [
        pytest.param(text, id=f"{page.name}-{number}")
        for page in PAGES
        for number, (kind, text) in enumerate(BLOCK.findall(page.read_text()), start=1)
        if kind == language
    ]


@pytest.mark.parametrize("text", blocks("toml"))
def test_configurations_load(text, tmp_path):
    path = tmp_path / "outstation.toml"
    # A block may show one section; it is completed by the least that a whole file needs.
    if "[[source]]" not in text:
        text += (
            '\n[[source]]\nid = "soil"\ndriver = "simulated"\nsignals = [{ name = "x", kind = "counter" }]\n'
        )
    path.write_text(text)
    load_config(path, catalogue())


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_exist(text):
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["sudo"]:
            del words[0]
        if not words or not words[0].endswith("outstation"):
            continue
        if "--help" not in words and "--version" not in words:
            build_parser().parse_args(words[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!http|#)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), target
