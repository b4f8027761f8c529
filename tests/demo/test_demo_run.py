"""The demo as a newcomer runs it: the installed program, the whole story, the plain verdict."""

import os
import re
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_demo_proves_its_point(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "agent", "demo", "--plain", "--folder", str(tmp_path / "demo")],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
    )
    last = result.stdout.splitlines()[-1]
    found = re.fullmatch(
        r"PROVEN: accepted (\d+), delivered (\d+), lost 0, duplicated 0, out of order 0, altered 0", last
    )
    assert found, (result.stdout, result.stderr)
    assert result.returncode == 0
    assert int(found[1]) == int(found[2]) > 3000
    for event in ("is cut", "SIGKILL", "started again", "is back"):
        assert event in result.stdout


def test_the_demo_leaves_others_files_alone(tmp_path):
    (tmp_path / "mine").write_text("precious")
    result = subprocess.run(
        [sys.executable, "-m", "agent", "demo", "--folder", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert result.returncode == 2
    assert "is not empty" in result.stderr
    assert (tmp_path / "mine").read_text() == "precious"
