"""The virtual machine's kernel and file system: a stock Debian kernel and bluetoothd, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rigs import debian_kernel
from tests.rigs.ble.initramfs import Initramfs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.rigs.debian_kernel import Image

_INIT = Path(__file__).with_name("guest_init.sh")
_PROGRAMS = ("usr/libexec/bluetooth/bluetoothd", "usr/bin/btattach")
_MODULES = [
    "virtio_pci",
    "virtio_console",
    "virtio_net",
    "virtio_rng",
    "sha512_generic",
    "sha3_generic",
    "jitterentropy_rng",
    "cmac",
    "ecb",
    "ctr",
    "drbg",
    "bluetooth",
    "hci_uart",
    "algif_hash",
    "algif_skcipher",
    "uhid",
]


def image() -> Image:
    """The image, made if it is not there yet."""
    return debian_kernel.image("bluetooth-machine", ["bluez"], [__file__, _INIT], _file_system)


def _file_system(root: Path) -> bytes:
    files = Initramfs()
    for folder in ("proc", "sys", "dev", "run", "var/lib/bluetooth"):
        files.folder(folder)
    files.file("init", _INIT.read_bytes())
    files.file("bin/busybox", (root / "bin/busybox").read_bytes())
    for program in _PROGRAMS:
        files.file(
            program if "libexec" in program else f"bin/{Path(program).name}", (root / program).read_bytes()
        )
    for library in sorted({library for program in _PROGRAMS for library in _libraries(root / program)}):
        files.file(library.lstrip("/"), Path(library).resolve().read_bytes())
    files.file("etc/bluetooth/main.conf", b"[General]\n[Policy]\nAutoEnable=true\n")
    files.file("etc/nsswitch.conf", b"hosts: files\npasswd: files\n")
    files.file("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    debian_kernel.add_modules(files, root, _MODULES)
    return files.bytes()


def _libraries(program: Path) -> Iterator[str]:
    linked = debian_kernel.run("ldd", str(program))
    assert "not found" not in linked, f"{linked}\nRemedy: ./install.sh test installs these libraries"
    yield from re.findall(r"(/\S+) \(0x", linked)
