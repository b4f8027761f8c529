"""install.sh flash: what it refuses, what it puts on a card, and a machine that boots such a card and collects."""

from __future__ import annotations

import asyncio
import hashlib
import lzma
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.install.checkout import REPOSITORY
from tests.install.test_device import SENSORS
from tests.rigs import cloud
from tests.rigs.configuration import upstream
from tests.rigs.kept import kept
from tests.rigs.machine import card_image, virtual_machine
from tests.rigs.machine.bundles import make_bundle
from tests.rigs.machine.card_image import join_partitions, make_card_image, read_boot_file
from tests.rigs.machine.disks import copy_sparsely
from tests.rigs.machine.root import debian_root
from tests.rigs.machine.virtual_machine import HOST, VirtualMachine
from tests.rigs.mosquitto import BrokerSettings, Mosquitto
from tests.rigs.programs import Program, until

if TYPE_CHECKING:
    from collections.abc import Iterator

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="cards are written as root")


def flash(*arguments: str | Path, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [REPOSITORY / "install.sh", "flash", *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """The smallest that flash accepts up to writing."""
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "README.md").write_text("a bundle")
    digest = hashlib.sha256(b"a bundle").hexdigest()
    (bundle / "SHA256SUMS").write_text(f"{digest}  ./README.md\n")
    image = tmp_path / "raspios.img"
    image.write_bytes(bytes(1 << 20))
    (tmp_path / "raspios.img.sha256").write_text(
        f"{hashlib.sha256(bytes(1 << 20)).hexdigest()}  raspios.img\n"
    )
    config = tmp_path / "my.toml"
    config.write_text(SENSORS)
    return {"--image": image, "--config": config, "--bundle": bundle}


def words(files: dict[str, Path]) -> list[str | Path]:
    return ["--unchecked-config", *(word for pair in files.items() for word in pair)]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ([], "flash wants --device or --output"),
        (["--device", "/dev/sdx", "--output", "card.img"], "not both"),
        (["--output", "card.img", "--hostname", "not a name"], "letters, digits and hyphens"),
        (["--output", "card.img", "--user", "Ada", "--ssh-key", "KEY"], "begins with a small letter"),
        (["--output", "card.img", "--user", "ada"], "say which, with --ssh-key"),
        (["--output", "card.img", "--ssh-key", "KEY"], "say who, with --user"),
        (["--output", "card.img", "--buffer-mb", "some"], "a number of megabytes"),
        (["--output", "card.img", "--buffer-mb", "1"], "at least 64"),
        (["--output", "card.img", "--secrets", "nowhere"], "there is no such folder"),
        (["--output", "card.img", "--wifi", "Garden", "--wifi-country", "Germany"], "two capital letters"),
        (["--output", "card.img", "--wifi-country", "DE"], "say which, with --wifi"),
        (["--output", "card.img", "--wifi-password-file", "KEY"], "say which, with --wifi"),
        (["--output", "card.img", "--user", "ada", "--ssh-key", "PRIVATE"], "this is no public key"),
        (["--output", "card.img", "--config", "KEY"], "is no TOML"),
        (["--output", "KEY"], "is there already"),
        (["--output"], "takes an argument"),
        (["--format"], "does not know --format"),
    ],
)
def test_what_is_not_meant_is_refused(
    files: dict[str, Path], tmp_path: Path, more: list[str], says: str
) -> None:
    key = tmp_path / "key.pub"
    key.write_text("ssh-ed25519 AAAA ada")
    private = tmp_path / "key"
    private.write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    known = {"KEY": str(key), "PRIVATE": str(private)}
    done = flash(*words(files), *[known.get(word, word) for word in more])
    assert done.returncode in (1, 2)
    assert says in done.stdout


@pytest.mark.parametrize("missing", ["--image", "--config", "--bundle"])
def test_what_is_missing_is_said(files: dict[str, Path], missing: str) -> None:
    del files[missing]
    done = flash(*words(files), "--output", "card.img")
    assert done.returncode == 2
    assert f"flash wants {missing}" in done.stdout


@as_root
def test_a_disk_that_is_no_card_is_not_touched(files: dict[str, Path], tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(4 << 20))
    loop = subprocess.run(
        ["/usr/sbin/losetup", "-f", "--show", disk], check=True, capture_output=True, text=True
    )
    device = loop.stdout.strip()
    try:
        done = flash(*words(files), "--device", device, "--yes")
        assert done.returncode == 1
        assert f"{device} is a loop: the whole disk is written" in done.stdout
    finally:
        subprocess.run(["/usr/sbin/losetup", "-d", device], check=True)
    done = flash(*words(files), "--device", tmp_path / "disk", "--yes")
    assert "is no disk" in done.stdout
    assert disk.read_bytes() == bytes(4 << 20)


@as_root
def test_an_image_that_is_not_the_one_it_should_be(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "raspios.img").write_bytes(b"\1" * (1 << 20))
    done = flash(*words(files), "--output", tmp_path / "card.img")
    assert "it is damaged, or another image" in done.stdout
    (tmp_path / "raspios.img.sha256").unlink()
    done = flash(*words(files), "--output", tmp_path / "card.img")
    assert "nothing says what the checksum" in done.stdout
    (files["--bundle"] / "README.md").write_text("something else")
    done = flash(*words(files), "--output", tmp_path / "card.img")
    assert "was changed or damaged" in done.stdout
    assert not (tmp_path / "card.img").exists()


@as_root
def test_an_image_without_two_partitions(files: dict[str, Path], tmp_path: Path) -> None:
    done = flash(*words(files), "--output", tmp_path / "card.img")
    assert "does not have two partitions" in done.stdout
    assert not list(tmp_path.glob("card.img*"))


@pytest.mark.parametrize("compressed", [False, True])
def test_what_is_written_is_read_back(tmp_path: Path, *, compressed: bool) -> None:
    content = os.urandom(9 << 20)
    image = tmp_path / "image"
    image.write_bytes(lzma.compress(content, preset=0) if compressed else content)
    script = [sys.executable, REPOSITORY / "deploy/write_image.py"]
    subprocess.run([*script, image, tmp_path / "card"], check=True, umask=0o022)
    assert (tmp_path / "card").read_bytes() == content
    assert (tmp_path / "card").stat().st_mode & 0o777 == 0o600, "passwords will be in it"
    full = subprocess.run([*script, image, "/dev/full"], check=False, capture_output=True, text=True)
    assert full.returncode == 1
    assert "could not be written" in full.stderr


@as_root
def test_an_image_is_of_whoever_called_sudo(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(bytes(1 << 20))
    subprocess.run(
        [sys.executable, REPOSITORY / "deploy/write_image.py", tmp_path / "image", tmp_path / "card"],
        check=True,
        env=os.environ | {"SUDO_UID": "1234", "SUDO_GID": "1235"},
    )
    state = (tmp_path / "card").stat()
    assert (state.st_uid, state.st_gid, state.st_mode & 0o777) == (1234, 1235, 0o600)


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Path]:
    recipe = hashlib.sha256(Path(card_image.__file__).read_bytes()).hexdigest()[:8]
    name = f"{debian_root().name}-{recipe}-{virtual_machine.recipe()}"
    image = kept("card-image", name, make_card_image)
    copy = copy_sparsely(image, tmp_path / "raspios.img")
    with copy.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    (tmp_path / "raspios.img.sha256").write_text(f"{digest}  raspios.img\n")
    return copy


LSBLK = """#!/bin/sh
case $* in
*TYPE*) case $1 in -dno) echo disk ;; *) printf 'disk\\npart\\n' ;; esac ;;
*RM,HOTPLUG*) echo '   1       1' ;;
*MOUNTPOINT*) ;;
*) echo "a card" ;;
esac
"""
"""Says of any disk that it is a card."""
MKFS = f"""#!/bin/sh
{sys.executable} -c '
import fcntl, os
for flags in (os.O_EXCL, 0):
    try:
        handle = os.open("'"$CARD"'", os.O_RDWR | flags)
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        print(error.strerror)
' >"$TRIED"
exec /usr/sbin/mkfs.ext4 "$@"
"""
"""Somebody else tries to have the card in the midst of it."""


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1.2 GB."""
    disk = tmp_path / "disk"
    with disk.open("wb") as file:
        file.truncate(1200 << 20)
    made = subprocess.run(
        ["/usr/sbin/losetup", "-f", "--show", disk], check=True, capture_output=True, text=True
    )
    yield Path(made.stdout.strip())
    subprocess.run(["/usr/sbin/losetup", "-d", made.stdout.strip()], check=True)


@as_root
@pytest.mark.slow
def test_a_card_is_written_while_nobody_else_may(
    files: dict[str, Path], tmp_path: Path, loop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name, script in (("lsblk", LSBLK), ("mkfs.ext4", MKFS)):
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("CARD", str(loop))
    monkeypatch.setenv("TRIED", str(tmp_path / "tried"))
    (tmp_path / "root/etc").mkdir(parents=True)
    files["--image"].unlink()
    join_partitions(files["--image"], tmp_path / "root", 32)
    digest = hashlib.sha256(files["--image"].read_bytes()).hexdigest()
    (tmp_path / "raspios.img.sha256").write_text(f"{digest}  raspios.img\n")

    handle = os.open(loop, os.O_RDWR | os.O_EXCL)
    try:
        refused = flash(*words(files), "--device", loop, "--yes", timeout_s=60)
    finally:
        os.close(handle)
    assert f"{loop} cannot be had for us alone: Device or resource busy" in refused.stdout
    assert not any((tmp_path / "disk").read_bytes()[: 1 << 20]), "nothing was written"

    done = flash(*words(files), "--device", loop, "--yes")
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "tried").read_text().splitlines() == [
        "Device or resource busy",
        "Resource temporarily unavailable",
    ]
    table = subprocess.run(["/usr/sbin/sfdisk", "--dump", loop], check=True, capture_output=True, text=True)
    assert table.stdout.count("type=") == 3
    os.close(os.open(loop, os.O_RDWR | os.O_EXCL))


@as_root
@pytest.mark.slow
@pytest.mark.timeout(900)
async def test_a_card_boots_installs_itself_and_its_readings_arrive(card: Path, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text("ssh-ed25519 AAAA ada")
    (tmp_path / "wifi").write_text("correct horse\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/broker").write_text("sesame\n")
    settings = BrokerSettings(users={"station": "sesame", "cloud": "sesame"})
    with Mosquitto(settings) as broker:
        config = tmp_path / "my.toml"
        options = {"username": "station", "password": {"credential": "broker"}, "tls": False}
        config.write_text(SENSORS + upstream(f"mqtt://{HOST}:{broker.port}", **options))
        flashed = flash(
            *("--image", card, "--output", tmp_path / "card.img", "--config", config),
            *("--bundle", make_bundle(tmp_path / "bundle"), "--secrets", tmp_path / "secrets"),
            *("--hostname", "greenhouse-3", "--user", "ada", "--ssh-key", tmp_path / "key.pub"),
            *("--wifi", "Garden", "--wifi-password-file", tmp_path / "wifi", "--wifi-country", "DE"),
            *("--uart", "--less-wear", "--buffer-mb", "128"),
        )
        assert flashed.returncode == 0, flashed.stdout
        made = tmp_path / "card.img"
        command_line = read_boot_file(made, "cmdline.txt")
        for gone in ("serial0", "firstboot"):
            assert gone not in command_line
        assert "regdom=DE" in command_line
        assert read_boot_file(made, "config.txt").count("[all]") == 2
        assert read_boot_file(made, "userconf.txt") == "ada:*\n"

        database = tmp_path / "cloud.sqlite"
        (tmp_path / "password").write_text("sesame\n")
        receiver = Program(
            *(
                "receive",
                "--from",
                f"mqtt://cloud@127.0.0.1:{broker.port}",
                "--into",
                f"sqlite:///{database}",
            ),
            *("--username", "cloud", "--password-file", str(tmp_path / "password")),
            log=tmp_path / "receiver.log",
        )
        machine = VirtualMachine(tmp_path, made, root="/dev/vda2")
        with receiver:
            receiver.start()
            await asyncio.to_thread(machine.boot)
            try:
                await until(lambda: arrived(database) > 100, "readings from the card", timeout_s=600)
                mounted = machine.run("findmnt", "-no", "SOURCE,OPTIONS", "/var/lib/outstation").stdout
                assert mounted.startswith("/dev/vda3")
                for option in ("noatime", "lazytime", "commit=30"):
                    assert option in mounted
                assert machine.run("cat", "/etc/hostname").stdout == "greenhouse-3\n"
                await until(
                    lambda: not machine.exists("/opt/outstation-card"), "the end of it", timeout_s=120
                )
                assert machine.run("cat", "/etc/ssh/authorized/ada").stdout.startswith("ssh-ed25519")
                machine.run("outstation", "buffer", "verify", "/var/lib/outstation/buffer")
            finally:
                await asyncio.to_thread(machine.cut)


def arrived(database: Path) -> int:
    """How many readings the receiver has."""
    return len(cloud.rows(database)) if database.exists() and database.stat().st_size else 0
