"""Signals end a run in order, at whatever moment they come."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

CONFIG = """
[[source]]
id = "sun"
driver = "simulated"
rate = 10
signals = [{ name = "w", kind = "counter" }]

[buffer]
path = "buffer"
"""


def start(folder: Path, *before: str, **options: Any) -> subprocess.Popen[str]:
    config = folder / "agent.toml"
    config.write_text(CONFIG)
    command = [*before, sys.executable, "-m", "agent", "run", "--config", str(config)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options)


def wait_until_it_collects(agent: subprocess.Popen[str]) -> None:
    assert agent.stderr is not None
    assert any("collects from" in line for line in agent.stderr)


def end(agent: subprocess.Popen[str]) -> int:
    try:
        return agent.wait(5)
    finally:
        agent.kill()
        agent.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_in_order(tmp_path, number):
    agent = start(tmp_path)
    wait_until_it_collects(agent)
    agent.send_signal(number)
    assert end(agent) == 0


def test_a_terminal_that_goes_away_ends_it_in_order(tmp_path):
    master, slave = os.openpty()
    take_terminal = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    agent = start(tmp_path, sys.executable, "-c", take_terminal, stdin=slave, start_new_session=True)
    os.close(slave)
    wait_until_it_collects(agent)
    os.close(master)
    assert end(agent) == 0


def test_a_terminal_that_goes_away_ends_nothing_under_nohup(tmp_path):
    agent = start(tmp_path, "nohup")
    wait_until_it_collects(agent)
    agent.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert agent.poll() is None
    agent.send_signal(signal.SIGTERM)
    assert end(agent) == 0


def test_it_stops_in_order_while_it_loads(tmp_path):
    agent = start(tmp_path)
    modules = Path(f"/proc/{agent.pid}/maps")
    deadline = time.monotonic() + 10
    while "pydantic_core" not in modules.read_text() and time.monotonic() < deadline:
        time.sleep(0.002)  # its libraries are being loaded: the program itself has begun
    agent.send_signal(signal.SIGTERM)
    assert end(agent) == 0
