"""An image as Raspberry Pi OS has it, small: a boot partition (FAT) with cmdline.txt and config.txt, and a root partition."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from tests.rigs.machine.disks import make_ext4
from tests.rigs.machine.root import debian_root
from tests.rigs.machine.virtual_machine import add_guest

if TYPE_CHECKING:
    from pathlib import Path

BOOT_MB, ROOT_MB, START_MB = 32, 500, 4
CMDLINE = (
    "console=serial0,115200 console=tty1 root=PARTUUID=00000000-02 rootfstype=ext4 fsck.repair=yes rootwait"
    " quiet init=/usr/lib/raspberrypi-sys-mods/firstboot\n"
)


def make_card_image(image: Path) -> None:
    """Make one, of a Debian that takes commands in a virtual machine."""
    work = image.with_suffix(".work")
    work.mkdir()
    folder = work / "root"
    subprocess.run(["cp", "-a", debian_root(), folder], check=True)
    (folder / "etc/fstab").write_text("/dev/vda2 / ext4 defaults,noatime 0 1\n")
    (folder / "etc/hosts").write_text("127.0.0.1\tlocalhost\n127.0.1.1\traspberrypi\n")
    add_guest(folder)
    join_partitions(image, folder, ROOT_MB)
    shutil.rmtree(work)


def join_partitions(image: Path, folder: Path, root_mb: int) -> None:
    """Make the image: a boot partition, and behind it a root partition with the files of a folder."""
    work = image.with_suffix(".parts")
    work.mkdir()
    root = make_ext4(folder, work / "root.img", root_mb)
    boot = work / "boot.img"
    _run("mkfs.vfat", "-C", "-n", "bootfs", str(boot), str(BOOT_MB * 1024))
    for name, text in (("cmdline.txt", CMDLINE), ("config.txt", "arm_64bit=1\n")):
        (work / name).write_text(text)
        _run("mcopy", "-i", str(boot), str(work / name), "::")
    part = work / "image"
    with part.open("wb") as file:
        file.truncate((START_MB + BOOT_MB + root_mb) << 20)
    table = f"label: dos\nstart={START_MB}MiB, size={BOOT_MB}MiB, type=c\nstart={START_MB + BOOT_MB}MiB, size={root_mb}MiB, type=83\n"
    subprocess.run(["/usr/sbin/sfdisk", "--quiet", part], input=table, text=True, check=True)
    for source, at in ((boot, START_MB), (root, START_MB + BOOT_MB)):
        _run("dd", f"if={source}", f"of={part}", "bs=1M", f"seek={at}", "conv=notrunc,sparse", "status=none")
    part.rename(image)
    shutil.rmtree(work)


def read_boot_file(image: Path, name: str) -> str:
    """What a file of the boot partition says."""
    done = subprocess.run(
        ["mtype", "-i", f"{image}@@{START_MB << 20}", f"::{name}"], check=True, capture_output=True, text=True
    )
    return done.stdout


def _run(*command: str) -> None:
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}
    )
    assert done.returncode == 0, done.stderr
