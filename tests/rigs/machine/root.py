"""The files of a small Debian, as a device has them: what runs in containers and virtual machines. Made as root."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from tests.rigs.debian_kernel import run
from tests.rigs.kept import kept

SUITE = "bookworm"
_PACKAGES = (
    *("systemd", "systemd-sysv", "udev", "kmod", "python3"),
    *("ca-certificates", "iproute2", "procps", "e2fsprogs"),
)


def debian_root() -> Path:
    """Its folder; nothing may be changed in there."""
    systemd = run("apt-cache", "policy", "systemd")
    found = re.search(r"Candidate: (\S+)", systemd)
    assert found, "apt knows no systemd; remedy: apt-get update"
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:8]
    return kept("debian-root", f"{found[1]}-{recipe}".replace(":", "_"), _make)


def _make(folder: Path) -> None:
    sources = sorted(Path("/etc/apt").glob("sources.list.d/*.sources"))
    sources += [path for path in [Path("/etc/apt/sources.list")] if path.exists() and path.stat().st_size]
    assert sources, "apt has no sources"
    run(
        "mmdebstrap",
        *("--quiet", "--variant=minbase", f"--include={','.join(_PACKAGES)}"),
        *("--aptopt=Apt::Install-Recommends false", "--skip=cleanup/reproducible"),
        *(SUITE, str(folder), str(sources[0])),
    )
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer", "e2scrub_all.timer", "dpkg-db-backup.timer"):
        (folder / "etc/systemd/system" / timer).symlink_to("/dev/null")
    (folder / "etc/machine-id").write_text("")
    (folder / "etc/hostname").write_text("station\n")
