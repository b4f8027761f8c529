"""The virtual machine's kernel and file system: a stock Debian kernel and bluetoothd, and nothing else.

Made of Debian's packages, which are downloaded and unpacked, not installed; kept below `.cache/` of the checkout, which git
does not see, for as long as Debian's versions stay. It needs no root.

The kernel is taken out of its bzImage, so that QEMU starts the ELF file itself: unpacking it in an emulated machine takes
seconds. Modules are loaded in the order of their own dependencies, since the package has no list of them.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import lzma
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.rigs.ble.initramfs import Initramfs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "bluetooth-machine"
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
_XZ_OFFSET, _XZ_LENGTH, _SETUP_SECTORS = 0x248, 0x24C, 0x1F1
"""Where a bzImage says where its compressed kernel is (the Linux/x86 boot protocol)."""


@dataclass(frozen=True)
class Image:
    """What QEMU is started with."""

    kernel: Path
    initrd: Path


def image() -> Image:
    """The image, made if it is not there yet."""
    versions = _candidates("bluez", "busybox-static", _kernel_package())
    recipe = hashlib.sha256(b"".join(Path(file).read_bytes() for file in (__file__, _INIT))).hexdigest()[:8]
    folder = CACHE / "-".join([*versions.values(), recipe]).replace(":", "_")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = Image(folder / "vmlinux", folder / "initrd.img")
        if not found.initrd.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            _make(found, folder / "root", list(versions))
    return found


def _make(made: Image, root: Path, packages: Sequence[str]) -> None:
    root.mkdir()
    _run("apt-get", "download", *packages, cwd=root.parent)
    for archive in root.parent.glob("*.deb"):
        _run("dpkg-deb", "-x", str(archive), str(root))
        archive.unlink()
    (boot,) = (root / "boot").glob("vmlinuz-*")
    made.kernel.write_bytes(_unpacked_kernel(boot.read_bytes()))
    part = made.initrd.with_suffix(".part")
    part.write_bytes(gzip.compress(_file_system(root), compresslevel=6))
    shutil.rmtree(root)
    part.rename(made.initrd)


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
    modules = _in_load_order(root)
    files.file("mod/order", "".join(f"{name}\n" for name, _ in modules).encode())
    for name, path in modules:
        files.file(f"mod/{name}.ko", path.read_bytes())
    return files.bytes()


def _unpacked_kernel(bz_image: bytes) -> bytes:
    protected = (bz_image[_SETUP_SECTORS] + 1) * 512
    start = protected + struct.unpack_from("<I", bz_image, _XZ_OFFSET)[0]
    length = struct.unpack_from("<I", bz_image, _XZ_LENGTH)[0]
    return lzma.LZMADecompressor().decompress(bz_image[start : start + length])


def _in_load_order(root: Path) -> list[tuple[str, Path]]:
    paths = {path.stem.replace("-", "_"): path for path in (root / "lib/modules").rglob("*.ko")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        if name not in paths or name in order:  # built in, or there already
            return
        for needed in re.findall(rb"\0depends=([^\0]*)\0", paths[name].read_bytes()):
            for other in filter(None, needed.decode().split(",")):
                add(other.replace("-", "_"))
        order[name] = paths[name]

    for name in _MODULES:
        add(name)
    return list(order.items())


def _libraries(program: Path) -> Iterator[str]:
    linked = _run("ldd", str(program))
    assert "not found" not in linked, f"{linked}\nRemedy: ./install.sh test installs these libraries"
    yield from re.findall(r"(/\S+) \(0x", linked)


def _kernel_package() -> str:
    found = re.search(
        r"Depends:.*?(linux-image-[\w.+-]+-amd64)", _run("apt-cache", "show", "linux-image-amd64")
    )
    assert found, "apt knows no linux-image-amd64; remedy: apt-get update"
    return found[1]


def _candidates(*packages: str) -> dict[str, str]:
    """The versions that would be downloaded."""
    versions = {}
    for package in packages:
        found = re.search(r"Candidate: (\S+)", _run("apt-cache", "policy", package))
        assert found, f"apt knows no {package}; remedy: apt-get update"
        versions[package] = found[1]
    return versions


def _run(*command: str, cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout
