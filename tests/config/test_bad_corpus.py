"""A corpus of bad configurations: each gets its own clear message, with the place, the key, the value and the remedy.

`bad/NAME.toml` (or the files of the folder `bad/NAME`) is wrong in one way, and `bad/NAME.says` is what `outstation check`
says of it, word for word. In what it says, `<...>` stands for what changes with what is installed.
"""

import os
import shutil
from pathlib import Path

import pytest

from agent.composition import catalogue
from agent.config import ConfigurationError, load_config
from agent.config.errors import shown
from drivers.codecs import CODECS
from drivers.framing import FRAMINGS

BAD = Path(__file__).parent / "bad"
CASES = sorted(path.stem for path in BAD.iterdir() if path.suffix != ".says")
CHANGING = {
    "<codecs>": CODECS.names,
    "<drivers>": catalogue().sources.names,
    "<framings>": FRAMINGS.names,
    "<processors>": catalogue().processors.names,
    "<upstreams>": sorted(catalogue().upstreams.names),
}


def placed(name: str, folder: Path) -> Path:
    """The files of a case, in a folder."""
    case = BAD / name
    if case.is_dir():
        shutil.copytree(case, folder, dirs_exist_ok=True)
    else:
        shutil.copy(BAD / f"{name}.toml", folder / "outstation.toml")
    return folder / "outstation.toml"


def said_of(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_config(path, catalogue(), check_files=True)
    text = "\n".join(str(problem) for problem in caught.value.problems) + "\n"
    for mark, names in CHANGING.items():
        text = text.replace(", ".join(names), mark)
    return text.replace(str(path.parent), "<folder>")


def test_each_fault_is_told_in_its_own_words(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    said = {}
    for name in CASES:  # in one test: a test of its own for each would cost ten times as much
        (tmp_path / name).mkdir()
        said[name] = said_of(placed(name, tmp_path / name))
        if "OUTSTATION_WRITE_CORPUS" in os.environ:  # to be read afterwards, with a user's eye
            (BAD / f"{name}.says").write_text(said[name])
    assert said == {name: (BAD / f"{name}.says").read_text() for name in CASES}


def test_there_are_enough_and_no_two_say_the_same():
    said = [(BAD / f"{name}.says").read_text() for name in CASES]
    assert len(CASES) >= 200
    assert len(set(said)) == len(CASES)
    assert {path.stem for path in BAD.iterdir() if path.suffix == ".says"} == set(CASES)


def test_every_problem_has_a_file_a_line_and_no_word_of_the_library():
    for name in CASES:
        for line in (BAD / f"{name}.says").read_text().splitlines():
            place = line.split(": ")[0]
            assert place.startswith(("outstation.toml", "conf.d/")), name
            assert ":" in place or "at least one [[source]]" in line, name
            assert not any(word in line.lower() for word in ("input", "valid ", "validation", "pydantic")), (
                name
            )


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("baudrate", 9600, "9600"),
        ("watch", True, "true"),
        ("codec", {"type": "csv", "columns": ["a", ""]}, "{ type = 'csv', columns = ['a', ''] }"),
        ("codec", {"type": "bthome", "key": "sesame"}, "{ type = 'bthome', key = a secret, not shown }"),
        ("password", "sesame", "a secret, not shown"),
        ("password", {"file": "sesame"}, None),
        ("topics", ["mqtt://me:sesame@host"], "['mqtt://me:***@host']"),
        ("url", "https://tb/api/v1/sesame/telemetry", "'https://tb/api/v1/***/telemetry'"),
        ("tags", {}, "{}"),
    ],
)
def test_values_are_shown_as_they_are_written_and_secrets_are_not(key, value, text):
    assert shown(key, value) == text
