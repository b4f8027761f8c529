"""Bundles for the Pi's architectures: what is in them is for that architecture, and runs there (emulated)."""

from __future__ import annotations

import re
import subprocess
import zipfile
from typing import TYPE_CHECKING

import pytest

from tests.rigs.debian_kernel import run
from tests.rigs.kept import kept
from tests.rigs.machine.bundles import make_bundle

if TYPE_CHECKING:
    from pathlib import Path

PACKAGES = (
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libssl3",
    "zlib1g",
    "libexpat1",
)
MORE = ("libffi8", "libuuid1", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libgcc-s1", "libstdc++6")


def arm64_python() -> Path:
    """Files of a Debian for ARM with Python, unpacked."""
    found = re.search(r"Candidate: (\S+)", run("apt-cache", "policy", "python3.11-minimal"))
    assert found

    def make(folder: Path) -> None:
        folder.mkdir()
        downloads = folder / "downloads"
        downloads.mkdir()
        options = [
            "-o",
            "APT::Architecture=arm64",
            "-o",
            "APT::Architectures::=arm64",
            "-o",
            f"Dir::State={folder}/state",
        ]
        options += ["-o", f"Dir::Cache={folder}/cache", "-o", "Dir::State::status=/dev/null"]
        for part in ("state/lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        run("apt-get", *options, "update", "-q")
        run("apt-get", *options, "download", *PACKAGES, *MORE, cwd=downloads)
        for archive in downloads.glob("*.deb"):
            run("dpkg-deb", "-x", str(archive), str(folder))

    return kept("arm64-python", found[1].replace(":", "_"), make)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_packages_for_arm64_are_imported_there(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path / "bundle", "aarch64", extras="http,ble")
    site = tmp_path / "site"
    for wheel in (bundle / "wheels").glob("*.whl"):
        if not wheel.name.startswith("pip-"):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
    root = arm64_python()
    program = (
        "import platform, pydantic_core, aiohttp, bleak, dbus_fast\n"
        "from agent.cli import main\n"
        "print(platform.machine())\n"
        "main(['drivers', 'serial'])\n"
    )
    done = subprocess.run(
        [
            "qemu-aarch64-static",
            "-L",
            root,
            "-E",
            f"PYTHONPATH={site}",
            root / "usr/bin/python3.11",
            "-c",
            program,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("aarch64\n")
    assert 'driver = "serial"' in done.stdout


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("arch", "python"), [("armv7l", "3.11"), ("aarch64", "3.13")])
def test_a_bundle_has_the_packages_of_its_architecture(tmp_path: Path, arch: str, python: str) -> None:
    bundle = make_bundle(tmp_path / "bundle", arch, python=python)
    (compiled,) = (bundle / "wheels").glob("pydantic_core-*.whl")
    assert f"cp{python.replace('.', '')}" in compiled.name
    assert arch in compiled.name
