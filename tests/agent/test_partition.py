"""Whether the buffer is on the partition that /etc/fstab has for it, as /proc/self/mountinfo tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.partition import NotMountedError, require_mounted

BUFFER = "/var/lib/outstation-of-tests/buffer"
PLACE = "/var/lib/outstation-of-tests"
FSTAB = f"""\
# LABEL=old {PLACE} ext4 defaults 0 2
/dev/mmcblk0p2 / ext4 defaults,noatime 0 1
LABEL=outstation {PLACE} ext4 noatime,nofail 0 2
/dev/mmcblk0p5 none swap sw 0 0
"""
ROOT = "22 1 179:2 / / rw,noatime - ext4 /dev/mmcblk0p2 rw\n"
PARTITION = f"31 22 179:3 / {PLACE} rw,noatime - ext4 /dev/mmcblk0p3 rw\n"
ONTO_ITSELF = f"40 22 179:2 {PLACE} {PLACE} rw - ext4 /dev/mmcblk0p2 rw\n"
OVER_THAT = f"41 40 179:3 / {PLACE} rw - ext4 /dev/mmcblk0p3 rw\n"
ANOTHER_FOLDER = f"42 22 179:2 /srv/card {PLACE} rw - ext4 /dev/mmcblk0p2 rw\n"


def machine(folder: Path, mountinfo: str, fstab: str = FSTAB) -> Path:
    (folder / "etc").mkdir()
    (folder / "etc/fstab").write_text(fstab)
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/mountinfo").write_text(mountinfo)
    return folder


@pytest.mark.parametrize(
    "mounted", [PARTITION, ONTO_ITSELF + OVER_THAT, OVER_THAT + ONTO_ITSELF, ANOTHER_FOLDER]
)
def test_the_partition_is_mounted(tmp_path: Path, mounted: str) -> None:

    require_mounted(Path(BUFFER), machine(tmp_path, ROOT + mounted))


@pytest.mark.parametrize("mounted", ["", ONTO_ITSELF])
def test_the_folder_below_is_not_taken_for_the_partition(tmp_path: Path, mounted: str) -> None:

    with pytest.raises(
        NotMountedError, match=f"LABEL=outstation, which /etc/fstab has at {PLACE}, is not mounted"
    ):
        require_mounted(Path(BUFFER), machine(tmp_path, ROOT + mounted))


def test_places_with_spaces(tmp_path: Path) -> None:

    fstab = "/dev/sda1 /mnt/my\\040card ext4 defaults 0 2\n"
    root = machine(tmp_path, ROOT, fstab)
    with pytest.raises(NotMountedError, match="/mnt/my card"):
        require_mounted(Path("/mnt/my card/buffer"), root)
    require_mounted(Path("/mnt/my"), root)
    (root / "proc/self/mountinfo").write_text(ROOT + "31 22 8:1 / /mnt/my\\040card rw - ext4 /dev/sda1 rw\n")
    require_mounted(Path("/mnt/my card/buffer"), root)


@pytest.mark.parametrize(("mountinfo", "fstab"), [("", FSTAB), (ROOT, "")])
def test_where_nothing_can_be_known_nothing_is_wrong(tmp_path: Path, mountinfo: str, fstab: str) -> None:

    require_mounted(Path(BUFFER), machine(tmp_path, mountinfo, fstab))
