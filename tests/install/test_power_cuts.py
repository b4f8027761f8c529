"""A whole machine whose plug is pulled while it collects, installs and upgrades: it always boots, always collects, loses nothing."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests.install.test_device import SENSORS
from tests.rigs.kept import kept
from tests.rigs.machine import virtual_machine
from tests.rigs.machine.bundles import another_release, make_bundle
from tests.rigs.machine.device import PENDING
from tests.rigs.machine.disks import copy_sparsely, make_ext4
from tests.rigs.machine.root import debian_root
from tests.rigs.machine.virtual_machine import VirtualMachine, add_guest
from tests.rigs.programs import seed_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="its files are made as root"),
]

DISK_MB = 1200


def machine_disk() -> Path:
    """A Debian that boots in a virtual machine."""
    root = debian_root()

    def make(image: Path) -> None:
        folder = image.with_suffix(".folder")
        subprocess.run(["cp", "-a", root, folder], check=True)
        (folder / "etc/fstab").write_text("/dev/vda / ext4 noatime,lazytime,commit=30 0 1\n")
        add_guest(folder)
        make_ext4(folder, image, DISK_MB)
        shutil.rmtree(folder)

    return kept("device-disk", f"{root.name}-{virtual_machine.recipe()}", make)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[VirtualMachine]:
    bundles = tmp_path / "bundles"
    first = make_bundle(bundles / "first")
    another_release(first, bundles / "second")
    (bundles / "sensors.toml").write_text(SENSORS)
    disk = copy_sparsely(machine_disk(), tmp_path / "disk")
    machine = VirtualMachine(tmp_path, disk, [make_ext4(bundles, tmp_path / "bundles.img", 64)])
    machine.boot()
    yield machine
    machine.cut()


def show_bundles(machine: VirtualMachine) -> None:
    machine.run("mount", "-o", "ro", "/dev/vdb", "/mnt")


def boot_again(machine: VirtualMachine) -> None:
    machine.cut()
    machine.boot()
    show_bundles(machine)


def test_the_plug_is_pulled(machine: VirtualMachine, request: pytest.FixtureRequest) -> None:
    rng = random.Random(seed_of("power cuts"))
    rounds = request.config.getoption("--power-cuts")
    show_bundles(machine)
    began_s = time.monotonic()
    for number in range(rounds):
        what = ("installing", "collecting", "upgrading")[number % 3]
        if what == "installing":
            if number:
                machine.run("sh", "/mnt/first/install.sh", "uninstall", "--purge")
            machine.begin("sh", "/mnt/first/install.sh", "--config", "/mnt/sensors.toml")
            after_s = rng.uniform(0.5, 40)
            time.sleep(after_s)
            boot_again(machine)
            machine.install_from("/mnt/first", "--config", "/mnt/sensors.toml")
            stored, found = 0, machine.collects()
        elif what == "collecting":
            stored = machine.collects()
            after_s = rng.uniform(0, 3)
            time.sleep(after_s)
            stored = machine.collects(stored)
            boot_again(machine)
            found = machine.collects(stored)
        else:
            stored = machine.collects()
            before = machine.release
            machine.begin("sh", "/mnt/second/install.sh", "upgrade")
            after_s = rng.uniform(0.5, 60)
            time.sleep(after_s)
            boot_again(machine)
            found = machine.collects(stored)
            assert machine.release in machine.releases
            machine.install_from("/mnt/second", "upgrade")
            assert machine.release != before
        assert not machine.exists(PENDING)
        machine.run("outstation", "buffer", "verify", "/var/lib/outstation/buffer")
        print(  # noqa: T201 (pytest -s shows how it goes)
            f"{time.monotonic() - began_s:5.0f} s: plug {number + 1} of {rounds} pulled {after_s:4.1f} s into {what}:"
            f" {stored} readings before, {found} after, release {machine.release}"
        )
