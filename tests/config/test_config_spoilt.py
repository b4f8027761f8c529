import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from agent.cli import main
from agent.composition import catalogue
from agent.config import load_config, socket_named_in
from tests.rigs.configuration import device, mqtt_source

USUAL = "/var/lib/outstation/buffer/agent.sock"


@pytest.mark.parametrize(
    ("text", "socket"),
    [
        ('[buffer]\npath = "kept"\n', "kept/agent.sock"),
        ('[buffer]\npath = "/var/kept"  # here\nquota = nonsense\n', "/var/kept/agent.sock"),
        ("[[source]]\nid = \n[buffer]\npath = 'kept'\n", "kept/agent.sock"),
        ('[buffer]\npath = "kept"\n[agent]\nsocket = "/run/o.sock"\n[[source]\n', "/run/o.sock"),
        ("[buffer]\npath = 5\n", None),
        ('path = "elsewhere"\n[[source]]\npath = "not this"\n=\n', USUAL),
        ("nonsense", USUAL),
        ("", USUAL),
        ('buffer = "x"', USUAL),
        ('[buffer]\npath = "\\u0000"', None),
    ],
)
def test_the_socket_is_found_whatever_else_is_wrong(tmp_path, text, socket):
    path = tmp_path / "outstation.toml"
    path.write_text(text)
    assert socket_named_in(path) == (None if socket is None else tmp_path / socket)


def test_a_file_that_is_not_there_names_none(tmp_path):
    assert socket_named_in(tmp_path / "none.toml") is None


@pytest.mark.parametrize("more", ["", '[agent]\nsocket = "s"\n', '[agent]\nsocket = "/run/o.sock"\n'])
def test_status_says_where_programs_can_ask(tmp_path, capsys, more):
    path = tmp_path / "outstation.toml"
    path.write_text(device(mqtt_source("mqtt://127.0.0.1:1")) + more)
    expected = load_config(path, catalogue()).socket
    for text in (path.read_text(), f"{path.read_text()}colour = 1\n"):
        path.write_text(text)
        assert main(["status", "--where", "--config", str(path)]) == 0
        while_opening, named = capsys.readouterr().out.splitlines()
        assert named == str(expected)
        assert while_opening.startswith("/run/outstation/opening-")
    path.unlink()
    assert main(["status", "--where", "--config", str(path)]) == 2
    assert str(path) in capsys.readouterr().err


def test_another_agents_folder_is_passed_over(tmp_path, monkeypatch, capsys):
    """That of the service, say, by somebody who runs his own."""

    def exists(place):
        if place.parent == tmp_path / "run":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))
        return True

    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(Path, "exists", exists)
    path = tmp_path / "outstation.toml"
    path.write_text('[agent]\nsocket = "s"\n')
    assert main(["status", "--config", str(path)]) == 1
    assert "no agent answers" in capsys.readouterr().err


ASKS = """
import sys
from agent.cli import main
assert main(["status", "--config", sys.argv[1]]) == 1
assert "agent.composition" not in sys.modules
"""


def test_asking_the_agent_loads_no_drivers(tmp_path):
    """Half of what the command took."""
    path = tmp_path / "outstation.toml"
    path.write_text('[agent]\nsocket = "s"\n')
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "s"))
        done = subprocess.run([sys.executable, "-c", ASKS, path], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "no agent answers" in done.stderr
