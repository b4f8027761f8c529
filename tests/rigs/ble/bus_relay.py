"""One connection of the virtual machine's bluetoothd to the host's bus: standard input and output, and a socket.

QEMU starts it anew for each connection (`guestfwd`): python bus_relay.py PATH_OF_THE_BUS
"""

from __future__ import annotations

import os
import select
import socket
import sys

PIECE_BYTES = 65536


def relay(path: str) -> None:
    """Carry bytes both ways until one side ends."""
    with socket.socket(socket.AF_UNIX) as bus:
        bus.connect(path)
        while True:
            ready, _, _ = select.select([0, bus], [], [])
            for side in ready:
                data = os.read(0, PIECE_BYTES) if side == 0 else bus.recv(PIECE_BYTES)
                if not data:
                    return
                if side == 0:
                    bus.sendall(data)
                else:
                    _write(data)


def _write(data: bytes) -> None:
    while data:
        data = data[os.write(1, data) :]


if __name__ == "__main__":
    relay(sys.argv[1])
