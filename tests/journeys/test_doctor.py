"""`outstation doctor` as it is typed: beside a running agent, as root and as an ordinary user."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from agent.cli import main
from tests.rigs import stored
from tests.rigs.configuration import counting_source, device, mqtt_source, serial_source, upstream
from tests.rigs.programs import ROOT, AgentProgram, free_port, receiver_program, until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may look into."""
    folder = Path(tempfile.mkdtemp(prefix="outstation-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def levels(document: dict[str, Any], check: str) -> dict[str, str]:
    return {f["subject"]: f["level"] for f in document["findings"] if f["check"] == check}


async def doctor(
    capsys: pytest.CaptureFixture[str], config: Path, *arguments: str, status: int
) -> dict[str, Any]:
    capsys.readouterr()
    ended = await asyncio.to_thread(main, ["doctor", "--json", "-c", str(config), *arguments])
    said = capsys.readouterr().out
    assert ended == status, said
    return json.loads(said)


async def test_a_device_that_is_well_is_told_so_beside_its_agent(
    open_folder: Path, capsys: pytest.CaptureFixture[str]
):
    url = f"http://127.0.0.1:{free_port()}"
    config = device(counting_source(20), upstream(f"{url}/readings"))
    with receiver_program(open_folder, url) as receiver, AgentProgram(open_folder, config) as agent:
        receiver.start()
        await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
        agent.start()
        await agent.until(lambda r: r.upstreams[0].delivered > 0, "delivery")
        document = await doctor(capsys, agent.config_file, "--deep", status=0)
        assert document["counts"]["problem"] == 0
        assert levels(document, "agent") == {"status": "ok"}
        assert levels(document, "network") == {"cloud": "ok"}
        assert levels(document, "upstream") == {"cloud": "ok"}
        assert levels(document, "buffer") == {"buffer": "ok"}
        ordinary = await asyncio.to_thread(as_nobody, agent.config_file)
        assert (await agent.stop())[0] == 0
    assert ordinary["counts"]["problem"] == 0
    assert levels(ordinary, "network") == {"cloud": "ok"}
    assert levels(ordinary, "agent") == {"status": "unknown"}
    assert stored.documents(agent.buffer, "dead_letters") == {}


def as_nobody(config: Path) -> dict[str, Any]:
    """What an ordinary user is told. It is done once before, since Python may be in a folder of root's."""
    script = (
        f"import contextlib, io, os, sys; sys.path.insert(0, {str(ROOT)!r}); from agent.cli import main\n"
        f"order = ['doctor', '--json', '-c', {str(config)!r}]\n"
        f"with contextlib.redirect_stdout(io.StringIO()): main(order)\n"
        f"os.setgroups([]); os.setgid({NOBODY}); os.setuid({NOBODY})\n"
        f"sys.exit(main(order))"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    return json.loads(ended.stdout)


async def test_what_is_wrong_is_told_all_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = tmp_path / "agent.toml"
    config.write_text(
        device(
            serial_source(tmp_path / "absent"),
            mqtt_source(f"mqtt://127.0.0.1:{free_port()}"),
            upstream("https://no.such.invalid/readings"),
        )
    )
    document = await doctor(capsys, config, status=1)
    assert levels(document, "source") == {"boiler": "problem", "hall": "unknown"}
    assert levels(document, "network") == {"hall": "problem", "cloud": "problem"}
    assert levels(document, "upstream") == {"cloud": "unknown"}
    assert document["counts"]["problem"] == 3  # each fault counts once
    assert levels(document, "agent") == {"status": "warning"}
    assert list(tmp_path.iterdir()) == [config]
    assert await asyncio.to_thread(main, ["doctor", "-c", str(config)]) == 1
    said = capsys.readouterr().out
    assert "-> plug it in, or correct `port`" in said
    assert "problems, " in said.splitlines()[-1]


async def test_a_wrong_configuration_is_a_problem_and_the_rest_is_looked_at(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = tmp_path / "agent.toml"
    config.write_text("[devise]\n")
    document = await doctor(capsys, config, status=1)
    problems = [finding["what"] for finding in document["findings"] if finding["check"] == "configuration"]
    assert any("devise" in problem for problem in problems)
    assert levels(document, "clock")
