"""docs/buffer.md stays true: its examples run one after the other, and it lists the differences the code lists."""

import re
import subprocess
import sys
from pathlib import Path

import buffer.table

PAGE = Path(__file__).parents[2] / "docs" / "buffer.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def test_the_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert names["key"][0::2] == ("greenhouse-3", 1)


def test_the_differences_are_those_of_the_code():
    def bullets(text):
        return text[text.index("- **ids_never_reused**") :].strip()

    assert bullets(PAGE.read_text()) == bullets(buffer.table.__doc__)


def test_it_imports_what_it_says_and_nothing_else():
    script = (
        "import sys, buffer;"
        "print(*sorted({name.partition('.')[0] for name in sys.modules} - set(sys.stdlib_module_names)))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=PAGE.parents[1]
    )
    ours = {"buffer", "collectors", "tinydb", "pydantic", "pydantic_core"}
    of_pydantic = {"annotated_types", "typing_extensions", "typing_inspection"}
    others = {name for name in loaded.stdout.split() if not name.startswith("_")} - ours - of_pydantic
    assert others <= {"sitecustomize", "zoneinfo"}
