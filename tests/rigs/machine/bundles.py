"""Bundles as `install.sh bundle` makes them, and what becomes of one when its release is another, or a bad one."""

from __future__ import annotations

import atexit
import hashlib
import os
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

ROOT = Path(__file__).resolve().parents[3]


def make_bundle(folder: Path, arch: str = "x86_64", *, python: str = "3.11", extras: str = "") -> Path:
    """Make one of this checkout; where one such was made in this run, that is copied."""
    shutil.copytree(_made(arch, python, extras), folder)
    return folder


@cache
def _made(arch: str, python: str, extras: str) -> Path:
    folder = Path(mkdtemp(prefix="outstation-bundle-"))
    atexit.register(shutil.rmtree, folder)
    bundle = folder / "bundle"
    more = ["--with", extras] if extras else []
    done = subprocess.run(
        [ROOT / "install.sh", "bundle", "--arch", arch, "--python", python, *more, bundle],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return bundle


def another_release(bundle: Path, folder: Path, changes: dict[str, str] | None = None) -> Path:
    """A bundle of a release that differs.

    Args:
        bundle: What it is made of.
        folder: Where it is made.
        changes: Files of outstation's own package, with what they say instead.
    """
    shutil.copytree(bundle, folder)
    with (folder / "README.md").open("a") as readme:
        readme.write(f"\n{folder.name}\n")
    (wheel,) = (folder / "wheels").glob("outstation-*.whl")
    if changes:
        before = wheel.with_suffix(".before")
        wheel.rename(before)
        with zipfile.ZipFile(before) as old, zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as new:
            for entry in old.infolist():
                new.writestr(entry, changes.get(entry.filename, old.read(entry)))
        before.unlink()
    sums = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  ./{path.relative_to(folder)}\n"
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "SHA256SUMS"
    ]
    (folder / "SHA256SUMS").write_text("".join(sums))
    os.chmod(folder, 0o755)  # noqa: PTH101
    return folder
