"""Each refusal of install.sh: what it says, that it names the remedy, that it changed nothing."""

import shutil
import subprocess

import pytest

from tests.install.checkout import REPOSITORY

APT = "sudo apt-get update && sudo apt-get install"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["instal"], "unknown command: instal"),
        (["--demo"], "unknown command: --demo"),
        (["test", "--quick"], "test takes --everyday or nothing, not: --quick"),
        (["test", "--everyday", "more"], "test takes --everyday or nothing, not: --everyday more"),
    ],
)
def test_a_wrong_command_line_is_answered_with_the_usage(checkout, arguments, reason):
    result = checkout.run(*arguments)

    assert result.returncode == 2
    assert result.stderr.startswith(f"install.sh: error: {reason}\n")
    assert "usage: ./install.sh [COMMAND]" in result.stderr
    assert checkout.calls() == []


@pytest.mark.parametrize("word", ["help", "-h", "--help"])
def test_help_names_every_command(checkout, word):
    result = checkout.run(word)

    assert (result.returncode, result.stderr) == (0, "")
    for command in ("install", "upgrade", "uninstall", "bundle", "demo", "test", "help"):
        assert f"\n  {command} " in result.stdout


def test_a_copy_outside_a_checkout_says_so(checkout, tmp_path):
    shutil.copy(checkout.folder / "install.sh", tmp_path / "install.sh")

    result = checkout.run("demo", script="../install.sh")

    assert result.returncode == 1
    assert "belongs to a checkout" in result.stderr
    assert "Remedy: clone the repository" in result.stderr


def test_a_truncated_script_does_nothing(checkout):
    lines = (REPOSITORY / "install.sh").read_text().splitlines(keepends=True)
    assert lines[-1] == 'main "$@"\n'
    script = checkout.folder / "install.sh"
    for count in range(1, len(lines)):
        script.write_text("".join(lines[:count]))
        assert checkout.run("demo").stdout == "", f"cut after line {count}"
    assert checkout.calls() == []
    assert not checkout.venv.exists()


@pytest.mark.parametrize("version", ["2.7.18", "3.9.2", "3.10.14", "3.14.0"])
def test_a_python_that_does_not_fit_is_named_with_the_remedy(checkout, version):
    checkout.python(version=version)

    result = checkout.run("demo")

    assert result.returncode == 1
    assert f"Python 3.11, 3.12 or 3.13 is needed; python3 is {version}." in result.stderr
    assert f"{APT} python3 python3-venv\n" in result.stderr
    assert "OUTSTATION_PYTHON=" in result.stderr
    assert not checkout.venv.exists()


def test_no_python_at_all(checkout):
    (checkout.bin / "python3").unlink()

    result = checkout.run("demo")

    assert result.returncode == 1
    assert "is needed; none was found." in result.stderr
    assert f"{APT} python3 python3-venv\n" in result.stderr


@pytest.mark.parametrize(
    ("name", "version", "package"),
    [("python3", "3.11.2", "python3-venv"), ("python3.13", "3.13.5", "python3.13-venv")],
)
def test_a_python_without_venv_is_told_which_package_brings_it(checkout, name, version, package):
    (checkout.bin / "python3").unlink()
    checkout.python(name, version, modules="no-venv")

    result = checkout.run("demo")

    assert result.returncode == 1
    assert f"Python {version} ({checkout.bin / name}) has no venv and ensurepip modules" in result.stderr
    assert f"{APT} {package}\n" in result.stderr
    assert not checkout.venv.exists()


def test_an_interpreter_asked_for_that_does_not_fit_is_not_replaced_by_another(checkout):
    checkout.python("old", "3.10.1")
    assert checkout.run("demo").returncode == 0

    result = checkout.run("demo", OUTSTATION_PYTHON=str(checkout.bin / "old"))

    assert result.returncode == 1
    assert f"{checkout.bin / 'old'} is 3.10.1." in result.stderr
    assert (checkout.venv / "bin/python").exists()


def test_a_folder_that_is_no_virtual_environment_is_left_alone(checkout):
    checkout.venv.mkdir()
    (checkout.venv / "letters.txt").write_text("dear")

    result = checkout.run("demo")

    assert result.returncode == 1
    assert f"{checkout.venv} is not a virtual environment" in result.stderr
    assert (checkout.venv / "letters.txt").read_text() == "dear"


def test_missing_debian_packages_are_named_to_those_who_are_not_root(checkout):
    # Not mosquitto itself: the script looks for it in /usr/sbin too, where this machine may have it.
    for name in ("mosquitto_pub", "shellcheck"):
        (checkout.bin / name).unlink()
    checkout.python(modules="no-venv")
    checkout.fake("apt-get")

    result = checkout.run("test")

    assert result.returncode == 1
    packages = "mosquitto-clients shellcheck python3-venv"
    assert f"the tests need programs that are not here: {packages}." in result.stderr
    assert f"apt-get install --no-install-recommends {packages}\n" in result.stderr
    assert checkout.calls() == []
    assert not checkout.venv.exists()


def test_missing_packages_where_there_is_no_apt_get(checkout):
    (checkout.bin / "shellcheck").unlink()
    checkout.user(0)

    result = checkout.run("test")

    assert result.returncode == 1
    assert "there is no apt-get to install them: shellcheck." in result.stderr


def test_root_gets_the_missing_packages_installed(checkout):
    shellcheck = checkout.bin / "shellcheck"
    shellcheck.unlink()
    checkout.user(0)
    # What the installation brings is the fake that was there before.
    checkout.program(
        "apt-get",
        '#!/bin/sh\necho "apt-get $*" >>"$CALLS"\n'
        f'[ "$1" = update ] || {{ printf "#!/bin/sh\\n" >{shellcheck}; chmod +x {shellcheck}; }}\n',
    )

    result = checkout.run("test", "--everyday")

    assert result.returncode == 0, result.stderr
    calls = [call for call in checkout.calls() if call.startswith("apt-get")]
    assert calls == ["apt-get update -q", "apt-get install -q -y --no-install-recommends shellcheck"]


def test_an_apt_get_that_fails_is_quoted(checkout):
    (checkout.bin / "shellcheck").unlink()
    checkout.user(0)
    checkout.program("apt-get", "#!/bin/sh\necho 'E: no sources'\nexit 100\n")

    result = checkout.run("test")

    assert result.returncode == 1
    assert "E: no sources" in result.stderr
    assert "the Debian packages could not be installed" in result.stderr
    assert not checkout.venv.exists()


def test_packages_that_cannot_be_installed_are_explained_and_tried_again(checkout):
    result = checkout.run("demo", FAKE_PIP_FAILS="1")

    assert result.returncode == 1
    assert "no such host" in result.stderr
    assert "the packages could not be installed; pip says why above." in result.stderr
    assert not checkout.stamp.exists()

    checkout.calls()
    assert checkout.run("demo").returncode == 0
    assert not any("-m venv" in call for call in checkout.calls()), "the environment was fine"


def test_all_shell_scripts_are_clean():
    scripts = [
        "install.sh",
        ".ci/run",
        "requirements/lock.sh",
        *(f"deploy/{script.name}" for script in (REPOSITORY / "deploy").glob("*.sh")),
    ]
    result = subprocess.run(
        ["shellcheck", *scripts], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert result.stdout + result.stderr == ""
