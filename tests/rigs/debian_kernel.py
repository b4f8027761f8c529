"""A stock Debian kernel with the modules and programs that a virtual machine needs, and nothing else.

Made of Debian's packages, which are downloaded and unpacked, not installed; kept in the user's cache folder for as long as Debian's
versions stay. It needs no root.

The kernel is taken out of its bzImage, so that QEMU starts the ELF file itself: unpacking it in an emulated machine takes
seconds. Modules are loaded in the order of their own dependencies, since the package has no list of them.
"""

from __future__ import annotations

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

from tests.rigs.kept import kept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.rigs.ble.initramfs import Initramfs

_XZ_OFFSET, _XZ_LENGTH, _SETUP_SECTORS = 0x248, 0x24C, 0x1F1
"""Where a bzImage says where its compressed kernel is (the Linux/x86 boot protocol)."""


@dataclass(frozen=True)
class Image:
    """What QEMU is started with."""

    kernel: Path
    initrd: Path


def image(
    name: str,
    packages: Sequence[str],
    recipe: Sequence[str | Path],
    file_system: Callable[[Path], bytes],
    *,
    places: Sequence[str | Path] = (),
) -> Image:
    """An image, made if it is not there yet.

    Args:
        name: Of the folder that it is kept in.
        packages: Debian's, beside the kernel and busybox.
        recipe: The files that say how it is made.
        file_system: Makes the archive of files, given where the packages are unpacked.
        places: Of this machine, that are named in it.
    """
    versions = _candidates(*packages, "busybox-static", _kernel_package())
    files = [Path(file).read_bytes() for file in (__file__, *recipe)]
    named = "\0".join(map(str, places)).encode()
    digest = hashlib.sha256(b"".join([*files, named])).hexdigest()[:8]
    key = "-".join([*versions.values(), digest]).replace(":", "_")
    folder = kept(name, key, lambda folder: _make(folder, list(versions), file_system))
    return Image(folder / "vmlinux", folder / "initrd.img")


def _make(folder: Path, packages: Sequence[str], file_system: Callable[[Path], bytes]) -> None:
    made = Image(folder / "vmlinux", folder / "initrd.img")
    root = folder / "root"
    root.mkdir(parents=True)
    run("apt-get", "download", *packages, cwd=root.parent)
    for archive in root.parent.glob("*.deb"):
        run("dpkg-deb", "-x", str(archive), str(root))
        archive.unlink()
    (boot,) = (root / "boot").glob("vmlinuz-*")
    made.kernel.write_bytes(_unpacked_kernel(boot.read_bytes()))
    made.initrd.write_bytes(gzip.compress(file_system(root), compresslevel=6))
    shutil.rmtree(root)


def add_modules(files: Initramfs, root: Path, modules: Sequence[str]) -> None:
    """Put modules below mod/, with `mod/order` to load them in."""
    ordered = _in_load_order(root, modules)
    files.file("mod/order", "".join(f"{name}\n" for name, _ in ordered).encode())
    for name, path in ordered:
        files.file(f"mod/{name}.ko", path.read_bytes())


def _unpacked_kernel(bz_image: bytes) -> bytes:
    protected = (bz_image[_SETUP_SECTORS] + 1) * 512
    start = protected + struct.unpack_from("<I", bz_image, _XZ_OFFSET)[0]
    length = struct.unpack_from("<I", bz_image, _XZ_LENGTH)[0]
    return lzma.LZMADecompressor().decompress(bz_image[start : start + length])


def _in_load_order(root: Path, modules: Sequence[str]) -> list[tuple[str, Path]]:
    paths = {path.stem.replace("-", "_"): path for path in (root / "lib/modules").rglob("*.ko")}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        if name not in paths or name in order:  # built in, or there already
            return
        for needed in re.findall(rb"\0depends=([^\0]*)\0", paths[name].read_bytes()):
            for other in filter(None, needed.decode().split(",")):
                add(other.replace("-", "_"))
        order[name] = paths[name]

    for name in modules:
        add(name)
    return list(order.items())


def _kernel_package() -> str:
    found = re.search(
        r"Depends:.*?(linux-image-[\w.+-]+-amd64)", run("apt-cache", "show", "linux-image-amd64")
    )
    assert found, "apt knows no linux-image-amd64; remedy: apt-get update"
    return found[1]


def _candidates(*packages: str) -> dict[str, str]:
    """The versions that would be downloaded."""
    versions = {}
    for package in packages:
        found = re.search(r"Candidate: (\S+)", run("apt-cache", "policy", package))
        assert found, f"apt knows no {package}; remedy: apt-get update"
        versions[package] = found[1]
    return versions


def run(*command: str, cwd: Path | None = None) -> str:
    """What a command writes, when it succeeds."""
    done = subprocess.run(command, cwd=cwd, check=False, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr or done.stdout}"
    return done.stdout
