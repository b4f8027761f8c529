"""`outstation init`: a first configuration, from questions on a terminal or from options."""

import asyncio
import os
import select
import signal
import stat
import subprocess
import time
from contextlib import suppress

import pytest

from agent.cli import main
from agent.composition import catalogue
from agent.config import load_config
from tests.rigs.programs import COMMAND
from tests.rigs.pty import PtySensor

PATIENCE_S = 30


class Terminal:
    """Somebody at a terminal, who waits for each question before answering it."""

    def __init__(self, folder, *options):
        self.master, slave = os.openpty()
        command = [*COMMAND, "init", "--config", str(folder / "outstation.toml"), *options]
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, close_fds=True, start_new_session=True
        )
        os.close(slave)
        self.said = ""
        self._read_to = 0

    def read(self) -> bool:
        try:
            self.said += os.read(self.master, 4096).decode(errors="replace").replace("\r\n", "\n")
        except OSError:  # the other side has gone
            return False
        return True

    def until(self, text: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while text not in self.said[self._read_to :]:
            left = end - time.monotonic()
            assert left > 0, f"not asked: {text!r}; said: {self.said}"
            if select.select([self.master], [], [], left)[0]:
                assert self.read(), self.said
        self._read_to = self.said.index(text, self._read_to) + len(text)

    def answer(self, question: str, answer: str = "") -> None:
        self.until(question)
        os.write(self.master, answer.encode() + b"\n")

    def interrupt(self) -> None:
        """Ctrl-C, again if it came between the question and the waiting for its answer, where Python misses it."""
        while self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)  # the terminal is nobody's controlling one
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(1)

    def end(self) -> int:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and select.select([self.master], [], [], PATIENCE_S)[0] and self.read():
            pass
        os.close(self.master)
        return self.process.wait(PATIENCE_S)


def loaded(folder):
    return load_config(folder / "outstation.toml", catalogue(), check_files=True)


def test_enter_all_the_way_gives_a_configuration_that_runs(tmp_path):
    terminal = Terminal(tmp_path)
    terminal.answer("Id of this device [outstation-")
    terminal.answer("Number, or Enter for that is all")
    terminal.answer("Enter for nowhere yet")
    terminal.answer("Folder of the buffer")
    terminal.answer("How much it may take")
    assert terminal.end() == 0, terminal.said
    config = loaded(tmp_path)
    assert [source.driver for source in config.source] == ["simulated"]
    assert (config.device.id, config.upstream, config.buffer.path) == (None, (), tmp_path / "buffer")
    assert main(["check", "--config", str(tmp_path / "outstation.toml")]) == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "outstation.toml"]


async def test_what_is_answered_is_written_and_what_is_wrong_is_asked_again(tmp_path):
    async with PtySensor(tmp_path) as sensor:
        speaking = asyncio.create_task(speak(sensor))
        await asyncio.to_thread(answer_everything, tmp_path, sensor.port)
        speaking.cancel()
    config = await asyncio.to_thread(loaded, tmp_path)
    assert config.device.id == "greenhouse-3"
    assert [source.driver for source in config.source] == ["serial", "mqtt"]
    assert config.source[0].options.port == sensor.port
    assert config.source[1].options.topics == ["a/#", "b/+"]
    assert config.buffer.quota == 2 * 10**9
    (upstream,) = config.upstream
    assert (upstream.options.url, upstream.options.ack, upstream.options.username) == (
        "mqtts://broker.example.com:8883",
        "broker",
        "me",
    )
    assert await asyncio.to_thread(upstream.options.password.read) == "canary 5"


async def speak(sensor):
    while True:
        await sensor.write(b'{"temperature": 21.5}\n')
        await asyncio.sleep(0.05)


def answer_everything(folder, port):
    terminal = Terminal(folder, "--time", "2 s")
    terminal.answer("Id of this device", "green house")
    terminal.answer(
        "should be of letters, digits, `_`, `.` and `-`, and begin with a letter or a digit", "greenhouse-3"
    )
    terminal.answer("Number, or Enter", "9")
    terminal.answer("a number from 1 to 3, please", "1")
    terminal.answer("Serial port, best one below /dev/serial/by-id", "COM3")
    terminal.answer("is no serial port", port)
    terminal.answer("Listen there for 2 s? [Y/n]", "maybe")
    terminal.answer("y or n, please", "y")
    terminal.answer("Collect from it? [Y/n]", "y")
    terminal.answer("Number, or Enter", "2")
    terminal.answer("URL of the broker [mqtt://localhost:1883]")
    terminal.answer("Topics, with commas between them [sensors/#]", "a/#/b")
    terminal.answer("must be the whole last level", "a/#, b/+")
    terminal.answer("Number, or Enter")
    terminal.answer("Enter for nowhere yet", "gopher://cloud")
    terminal.answer("must begin with mqtt://", "mqtts://broker.example.com:8883")
    terminal.answer("Is `outstation receive` at the other end? [Y/n]", "n")
    terminal.answer("User name there; Enter for none", "me")
    terminal.answer("Password (not shown", "canary 5")
    terminal.answer("Folder of the buffer, on a disk that stays [buffer]")
    terminal.answer("How much it may take", "7 MB")
    terminal.answer("should be 8 MiB or more", "2 GB")
    assert terminal.end() == 0, terminal.said
    assert "outstation.toml is written" in terminal.said
    assert "canary" not in terminal.said
    written = (folder / "outstation.toml").read_text()
    assert "canary" not in written
    kept = folder / "secrets" / "upstream"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize(("key", "status", "says"), [(b"\x04", 1, "nothing was written"), (b"\x03", 130, "")])
def test_who_leaves_in_the_middle_has_written_nothing(tmp_path, key, status, says):
    terminal = Terminal(tmp_path)
    terminal.until("Id of this device")
    if key == b"\x03":
        terminal.interrupt()
    else:
        os.write(terminal.master, key)
    assert terminal.end() == status
    assert says in terminal.said
    assert list(tmp_path.iterdir()) == []


def run(*options):
    return main(["init", *map(str, options)])


def test_options_instead_of_questions(tmp_path, capsys):
    (tmp_path / "word").write_text("canary")
    path = tmp_path / "outstation.toml"
    options = ["--device-id", "pi", "--port", "/dev/ttyUSB0", "--port", "/dev/ttyUSB1", "--mqtt", "mqtt://b"]
    options += [
        "--topic",
        "x/#",
        "--upstream",
        "https://cloud/readings",
        "--ack",
        "receiver",
        "--username",
        "me",
    ]
    options += ["--password-file", tmp_path / "word", "--buffer", "kept", "--quota", "1 GB"]
    assert run("--yes", "--config", path, *options) == 0
    config = loaded(tmp_path)
    assert [source.id for source in config.source] == ["serial", "serial-2", "broker"]
    assert (config.device.id, config.buffer.path, config.buffer.quota) == ("pi", tmp_path / "kept", 10**9)
    assert config.source[2].options.topics == ["x/#"]
    assert config.upstream[0].driver == "http"
    assert config.upstream[0].options.password.read() == "canary"
    assert "outstation check --config" in capsys.readouterr().out


def test_what_is_there_is_not_overwritten_and_what_is_wrong_is_not_written(tmp_path, capsys):
    path = tmp_path / "outstation.toml"
    assert run("--yes", "--config", path, "--quota", "7 MB", "--device-id", "a b") == 2
    said = capsys.readouterr().err
    assert "outstation.toml:" in said
    assert "buffer.quota: should be 8 MiB or more (found '7 MB')" in said
    assert "device.id: should be of letters" in said
    assert list(tmp_path.iterdir()) == []
    assert (
        run(
            "--yes",
            "--config",
            path,
            "--upstream",
            "https://c/",
            "--username",
            "u",
            "--password-file",
            "none",
        )
        == 2
    )
    assert "there is no file" in capsys.readouterr().err
    path.write_text("precious")
    assert run("--yes", "--config", path) == 2
    assert "is not overwritten" in capsys.readouterr().err
    assert path.read_text() == "precious"
    assert run("--yes", "--config", tmp_path / "no" / "o.toml") == 2
    assert "there is no folder" in capsys.readouterr().err


def test_the_empty_form_that_the_installer_leaves_makes_room_and_is_kept(tmp_path, capsys):
    path = tmp_path / "outstation.toml"
    form = '# The configuration\n[device]\n# id = "x"\n[buffer]\npath = "/var/lib/outstation/buffer"\n'
    path.write_text(form)
    assert run("--yes", "--config", path, "--quota", "7 MB") == 2
    assert path.read_text() == form
    assert run("--yes", "--config", path) == 0
    assert "named no source yet: it is" in capsys.readouterr().out
    assert (tmp_path / "outstation.toml.before-init").read_text() == form
    assert loaded(tmp_path).source[0].driver == "simulated"
    assert run("--yes", "--config", path) == 2


def test_it_is_checked_with_the_files_beside_it(tmp_path, capsys):
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "a.toml").write_text('[buffer]\npath = "elsewhere"\n')
    assert run("--yes", "--config", tmp_path / "outstation.toml") == 2
    assert "buffer.path: is set in outstation.toml:" in capsys.readouterr().err


def test_without_a_terminal_it_says_what_to_do(tmp_path):
    done = subprocess.run(
        [*COMMAND, "init", "--config", str(tmp_path / "o.toml")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "there is no terminal to ask at: give --yes" in done.stderr


def test_everything_in_it_is_explained(tmp_path):
    run("--yes", "--config", tmp_path / "outstation.toml", "--upstream", "mqtts://b")
    lines = (tmp_path / "outstation.toml").read_text().splitlines()
    headings = [place for place, line in enumerate(lines) if line.startswith("[")]
    assert all(lines[place - 1].startswith("#") for place in headings)
