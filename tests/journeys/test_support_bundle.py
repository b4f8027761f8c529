"""`outstation support-bundle`: everything that helps, and no secret, no reading."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import tarfile
from typing import TYPE_CHECKING

from agent.cli import main
from tests.rigs.configuration import counting_source, device, mqtt_source, upstream
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.programs import AgentProgram, free_port

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

CANARIES = {kind: f"canary-{kind}-7f3a9" for kind in ("file", "env", "query", "comment", "log", "reading")}


def contents(path: Path) -> dict[str, str]:
    with tarfile.open(path) as archive:
        return {entry.name.partition("/")[2]: archive.extractfile(entry).read().decode() for entry in archive}


async def test_a_bundle_helps_and_holds_no_secret(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "password").write_text(CANARIES["file"] + "\n")
    monkeypatch.setenv("CLOUD_TOKEN", CANARIES["env"])
    tools = tmp_path / "bin"
    tools.mkdir()
    journalctl = tools / "journalctl"
    journalctl.write_text(
        f"#!/bin/sh\necho 'cloud: 401 (you said {CANARIES['env']})'\necho 'password: {CANARIES['log']}'\necho kept\n"
    )
    journalctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with Mosquitto(BrokerSettings(users={"hall": CANARIES["file"]})) as broker:
        config = "\n".join(
            [
                device(
                    counting_source(20),
                    mqtt_source(broker.url, username="hall", password={"file": "password"}),
                    upstream(
                        f"http://127.0.0.1:{free_port()}/readings?token={CANARIES['query']}",
                        token={"env": "CLOUD_TOKEN"},
                    ),
                ),
                f"# {CANARIES['comment']}",
            ]
        ).replace('name = "n"', f'name = "{CANARIES["reading"]}"')
        with AgentProgram(tmp_path, config) as agent:
            agent.start()
            await agent.until(lambda r: r.buffer.stored > 5 and r.sources[1].state == "connected", "it runs")
            bundle = tmp_path / "bundle.tar.gz"
            order = ["support-bundle", str(bundle), "--config", str(agent.config_file)]
            assert await asyncio.to_thread(main, order) == 0
            said = capsys.readouterr().out
            before = bundle.read_bytes()
            assert await asyncio.to_thread(main, order) == 2
            assert "is there already" in capsys.readouterr().err
            assert bundle.read_bytes() == before
            assert (await agent.stop())[0] == 0
    files = contents(bundle)
    assert stat.S_IMODE(bundle.stat().st_mode) == 0o600
    for name, text in files.items():
        assert name == "CONTENTS.txt" or name in said
        assert name == "CONTENTS.txt" or name in files["CONTENTS.txt"]
        for kind, canary in CANARIES.items():
            if kind != "reading" or name != "configuration/agent.toml.json":  # a name of the configuration
                assert canary not in text, f"{kind} in {name}"
    assert json.loads(files["status.json"])["device_id"] == "journey-pi"
    assert json.loads(files["doctor.json"])["findings"]
    assert json.loads(files["versions.json"])["packages"]["pydantic"]
    assert json.loads(files["buffer-ls.json"])["segments"]
    assert json.loads(files["buffer-stats.json"])
    assert '"token": {\n        "env": "CLOUD_TOKEN"' in files["configuration/agent.toml.json"]
    assert files["journal.txt"].endswith("kept\n")


def test_without_an_agent_and_with_a_spoilt_configuration_it_holds_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spoilt.toml").write_text(f'[upstream\npassword = "{CANARIES["file"]}"\n')
    assert main(["support-bundle", "--config", "spoilt.toml"]) == 0
    (bundle,) = tmp_path.glob("outstation-support-*.tar.gz")
    files = contents(bundle)
    assert "password = (left out)" in files["configuration/spoilt.toml.json"]
    assert "is not TOML" in files["check.txt"]
    assert json.loads(files["doctor.json"])["counts"]["problem"]
    assert not any(CANARIES["file"] in text for text in files.values())
    assert main(["support-bundle", "no/such/folder.tar.gz", "--config", "spoilt.toml"]) == 1
    assert "No such file" in capsys.readouterr().err
