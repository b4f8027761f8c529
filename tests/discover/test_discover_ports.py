"""The scout of serial ports ends when it is told to, with what it has heard."""

import pytest

from drivers.serial import discover
from drivers.serial.discover import SerialScout


class TalkingPort:
    """Says a line at each read; after some the scout is told that it is enough.

    Args:
        scout: Reads it.
        line: What it says.
    """

    timeout = 0.0
    in_waiting = 0

    def __init__(self, scout, line):
        self.scout, self.line, self.reads, self.closed = scout, line, 0, 0

    def read(self, _size):
        self.reads += 1
        if self.reads == 3:
            self.scout.enough()
        return self.line

    def close(self):
        self.closed += 1


@pytest.mark.parametrize(("line", "proposed"), [(b'{"celsius": 21.5}\n', True), (b"\xf1\x8a", False)])
async def test_what_was_heard_until_then_is_looked_at(tmp_path, monkeypatch, line, proposed):
    scout = SerialScout(str(tmp_path / "port"))
    port = TalkingPort(scout, line)
    monkeypatch.setattr(discover, "open_device", lambda _config: port)
    monkeypatch.setattr(discover, "shared_with", lambda _port: [])
    (finding,) = await scout.look(600)
    assert (finding.source is not None) is proposed
    assert (port.reads, port.closed) == (3, 1)
