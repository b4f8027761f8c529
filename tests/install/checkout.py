"""A miniature checkout with install.sh, and a PATH that holds nothing but chosen tools and fakes.

The fakes write each call to a file, so that tests see what would have been run.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

TOOLS = (
    *("cat", "cp", "date", "dirname", "env", "find", "grep", "head"),
    *("awk", "basename", "cut", "df", "flock", "getent", "sed", "tr", "uname"),
    *("mkdir", "mktemp", "readlink", "rm", "sh", "sha256sum", "sort"),
)

# Answers the questions that install.sh asks an interpreter; `venv` makes an
# environment whose programs are this file again.
FAKE_PYTHON = """#!/bin/sh
version='{version}'
modules='{modules}'
case $1 in -c | -I) ;; *) echo "python $version $*" >>"$CALLS" ;; esac
case "$1 ${{2-}}" in
-c*) echo "$version $modules $0" ;;
-I*) [ -z "${{FAKE_MOVED-}}" ] || exit 1; echo "$version" ;;
'-m venv')
    mkdir -p "$4/bin"
    : >"$4/pyvenv.cfg"
    cp "$0" "$4/bin/python"
    echo "#!$4/bin/python" >"$4/bin/pip"
    for program in outstation lint-imports; do
        printf '#!/bin/sh\\necho "%s $*" >>"$CALLS"\\nexit ${{FAKE_STATUS:-0}}\\n' $program >"$4/bin/$program"
        chmod +x "$4/bin/$program"
    done ;;
'-m pip')
    env >"$CALLS.environment"
    case " $* " in *" ${{FAKE_PIP_KILLS-none}} "*) kill -9 $PPID; exit 1 ;; esac
    [ -z "${{FAKE_PIP_FAILS-}}" ] || {{ echo 'no such host'; exit 1; }} ;;
'-m ruff') exit ${{FAKE_RUFF_STATUS:-0}} ;;
*) exit 0 ;;
esac
"""


@dataclass
class Checkout:
    """The miniature checkout; `run` starts its install.sh."""

    folder: Path
    bin: Path
    calls_file: Path
    environment: dict[str, str] = field(default_factory=dict)

    def program(self, name: str, script: str) -> Path:
        """Puts a shell script on PATH."""
        path = self.bin / name
        path.write_text(script)
        path.chmod(0o755)
        return path

    def python(self, name: str = "python3", version: str = "3.11.2", modules: str = "venv") -> None:
        self.program(name, FAKE_PYTHON.format(version=version, modules=modules))

    def fake(self, *names: str, status: int = 0) -> None:
        """Puts programs on PATH that only write down how they were called."""
        for name in names:
            self.program(name, f'#!/bin/sh\necho "{name} $*" >>"$CALLS"\nexit {status}\n')

    def user(self, uid: int) -> None:
        self.program("id", f"#!/bin/sh\necho {uid}\n")

    def run(
        self, *arguments: str, script: str = "install.sh", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.folder / script, *arguments],
            env={"PATH": str(self.bin), "CALLS": str(self.calls_file)} | self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    def calls(self) -> list[str]:
        """What was called since the last question, without the questions to interpreters."""
        if not self.calls_file.exists():
            return []
        lines = self.calls_file.read_text().splitlines()
        self.calls_file.unlink()
        return lines

    @property
    def venv(self) -> Path:
        return self.folder / ".venv"

    @property
    def stamp(self) -> Path:
        return self.venv / "outstation-installed"


def programs_for_tests() -> list[str]:
    """The programs by which install.sh sees that Debian's packages are there."""
    script = (REPOSITORY / "install.sh").read_text()
    listed = script.split("debian_packages() {\n    cat <<'END'\n")[1].split("\nEND\n")[0]
    return [shown for shown, _ in map(str.split, listed.splitlines()) if not shown.startswith("/")]


def make_checkout(folder: Path) -> Checkout:
    checkout = Checkout(folder / "checkout", folder / "bin", folder / "calls")
    checkout.folder.mkdir()
    checkout.bin.mkdir()
    for name in ("install.sh", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, checkout.folder)
    for name in ("requirements", "deploy", ".ci"):
        shutil.copytree(REPOSITORY / name, checkout.folder / name)
    for tool in (*TOOLS, "chmod"):
        found = shutil.which(tool, path=os.defpath)
        assert found, f"{tool} is part of every Debian"
        (checkout.bin / tool).symlink_to(found)
    checkout.python()
    checkout.user(1000)
    checkout.fake(*programs_for_tests())
    return checkout
