"""Runs in a virtual machine: takes commands from a port, and says what became of them. One JSON object a line."""

import json
import subprocess
import sys

PORT = "/dev/virtio-ports/commands"


def main() -> int:
    with open(PORT, "r+b", buffering=0) as port:  # noqa: PTH123 (a device)
        port.write(b'{"up": true}\n')
        for line in iter(port.readline, b""):
            order = json.loads(line)
            try:
                done = subprocess.run(
                    order["command"],
                    check=False,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    timeout=order["timeout_s"],
                )
                answer = {"returncode": done.returncode, "stdout": done.stdout}
            except (OSError, subprocess.TimeoutExpired) as error:
                answer = {"returncode": 127, "stdout": str(error)}
            port.write(json.dumps(answer).encode() + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
