"""The page on pipelines shows what `outstation try` really says."""

import re
from pathlib import Path

from agent.cli import main

PAGE = Path(__file__).parents[2] / "docs" / "pipeline.md"
EXAMPLE = re.compile(
    r"```toml\n(?P<toml>.*?)```\n\n```json\n(?P<capture>.*?)```\n\n.*?```text\n(?P<said>.*?)```", re.DOTALL
)


def test_the_dry_run_says_what_the_page_shows(tmp_path, capsys):
    page = PAGE.read_text()
    example = EXAMPLE.search(page, page.index("<!-- the test of this page"))
    assert example is not None
    (tmp_path / "outstation.toml").write_text(example["toml"])
    (tmp_path / "soil.jsonl").write_text(example["capture"])
    assert main(["try", str(tmp_path / "soil.jsonl"), "--config", str(tmp_path / "outstation.toml")]) == 0
    assert capsys.readouterr().out == example["said"]
