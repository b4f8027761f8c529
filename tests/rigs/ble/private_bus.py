"""A system bus of its own: dbus-daemon on a socket in a folder that goes when it ends.

Whoever reads DBUS_SYSTEM_BUS_ADDRESS uses it: the driver under test, and an agent that is started as a process.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Self

_CONFIGURATION = """\
<busconfig>
  <type>session</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  <auth>ANONYMOUS</auth>
  <allow_anonymous/>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
"""

DIE_WITH_US = ("setpriv", "--pdeathsig", "KILL")
"""Before the command of a server: a test run that is killed leaves none behind."""


class PrivateBus:
    """A dbus-daemon, running within the `with` block.

    Attributes:
        folder: Goes with it; further sockets may lie there.
        address: What DBUS_SYSTEM_BUS_ADDRESS must say.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="outstation-bus-"))
        self.socket = self.folder / "bus"
        self.address = f"unix:path={self.socket}"
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it; returns when it listens."""
        configuration = self.folder / "bus.conf"
        configuration.write_text(_CONFIGURATION.format(socket=self.socket))
        ready, announce = os.pipe()
        options = [f"--config-file={configuration}", "--nofork", "--nopidfile", f"--print-address={announce}"]
        try:
            self._daemon = subprocess.Popen(
                [*DIE_WITH_US, "dbus-daemon", *options], pass_fds=[announce], stderr=subprocess.DEVNULL
            )
        finally:
            os.close(announce)
        with os.fdopen(ready, "rb") as announced:
            assert announced.readline(), "dbus-daemon did not start"

    def stop(self) -> None:
        """End it, as a crash would: with all connections."""
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
            self._daemon = None
        self.socket.unlink(missing_ok=True)
