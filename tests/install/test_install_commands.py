"""What install.sh does when nothing is wrong, and how it meets an environment that is there already."""

import re
import sys

import pytest


def test_demo_sets_up_from_locked_packages_and_becomes_the_demo(checkout):
    result = checkout.run("demo", "--seconds", "5", FAKE_STATUS="7")

    assert result.returncode == 7, "the demo's verdict is the command's"
    made, tools, packages, project, demo = checkout.calls()
    assert made == f"python 3.11.2 -m venv --clear {checkout.venv}"
    for call, lock in ((tools, "build"), (packages, "demo")):
        assert " --require-hashes " in call
        assert " --only-binary :all: " in call
        assert call.endswith(f" -r {checkout.folder}/requirements/{lock}.lock")
    assert " --no-index --no-deps --no-build-isolation --editable " in project
    assert demo == "outstation demo --seconds 5"


def test_run_twice_installs_once(checkout):
    checkout.run("demo")
    checkout.calls()

    result = checkout.run("demo")

    assert "set up already" in result.stdout
    assert checkout.calls() == ["outstation demo"]


@pytest.mark.parametrize("changed", ["requirements/run.lock", "requirements/build.lock", "pyproject.toml"])
def test_a_changed_lock_is_installed_into_the_same_environment(checkout, changed):
    checkout.run("demo")
    checkout.calls()
    with (checkout.folder / changed).open("a") as file:
        file.write("# newer\n")

    checkout.run("demo")

    assert len(installed := checkout.calls()) == 4, installed
    assert "-m pip" in installed[0]


def test_the_test_set_serves_the_demo_but_not_the_other_way_round(checkout):
    checkout.run("demo")
    checkout.calls()
    assert "set up already" not in checkout.run("test").stdout
    assert "set up already" in checkout.run("demo").stdout
    assert "set up already" in checkout.run("test").stdout


def test_the_newest_python_that_fits_is_taken(checkout):
    checkout.python("python3.13", "3.13.1", modules="no-venv")
    checkout.program("python3.12", "#!/bin/sh\nexit 127\n")  # a shim whose version is not there
    checkout.python("python3.11", "3.11.9")

    checkout.run("demo")

    assert checkout.calls()[0].startswith("python 3.11.9 -m venv")


def test_an_interpreter_can_be_asked_for(checkout):
    checkout.run("demo")
    checkout.python("mine", "3.12.4")
    checkout.calls()

    result = checkout.run("demo", OUTSTATION_PYTHON=str(checkout.bin / "mine"))

    assert "made by another Python or in another folder; making it anew" in result.stdout
    assert checkout.calls()[0].startswith("python 3.12.4 -m venv")


def test_an_environment_of_another_python_or_folder_is_made_anew(checkout):
    checkout.run("demo")
    checkout.calls()
    result = checkout.run("demo", FAKE_MOVED="1")
    assert "made by another Python or in another folder; making it anew" in result.stdout
    assert "-m venv --clear" in checkout.calls()[0]

    moved = checkout.folder.rename(checkout.folder.with_name("moved here"))
    checkout.folder = moved
    assert "making it anew" in checkout.run("demo").stdout


@pytest.mark.parametrize("place", ["build.lock", "demo.lock", "--editable"])
def test_an_interrupted_set_up_is_never_taken_for_a_whole_one(checkout, place):
    argument = place if place.startswith("-") else f"{checkout.folder}/requirements/{place}"
    assert checkout.run("demo", FAKE_PIP_KILLS=argument).returncode == -9
    checkout.calls()

    result = checkout.run("demo")

    assert "the last set-up of .venv was interrupted; making it anew" in result.stdout
    assert result.returncode == 0
    assert len(checkout.calls()) == 5


def test_the_callers_settings_send_nothing_elsewhere_but_keep_their_index(checkout):
    checkout.run(
        "demo", PIP_TARGET="/elsewhere", PIP_USER="1", PYTHONPATH="/elsewhere", PIP_INDEX_URL="file:///mine"
    )

    environment = checkout.calls_file.with_name("calls.environment").read_text()
    assert "/elsewhere" not in environment
    assert "PIP_USER" not in environment
    assert "PIP_INDEX_URL=file:///mine" in environment


CHECKS = [
    "shellcheck",
    "ruff check",
    "ruff format",
    "mypy",
    "lint-imports",
    "pytest -m not slow",
    "pytest -m slow",
]


def checks_run(checkout) -> list[str]:
    calls = [re.sub(r"^python [0-9.]+ -m ", "", call) for call in checkout.calls()]
    return [call for call in calls if not call.startswith(("venv", "pip"))]


def test_test_runs_every_check_with_the_tests_last(checkout):
    result = checkout.run("test")

    assert result.returncode == 0, result.stderr
    calls = checks_run(checkout)
    assert len(calls) == len(CHECKS)
    for call, check in zip(calls, CHECKS, strict=True):
        assert call.startswith(check)
    assert len(re.findall(r"^== .*: passed, \d+ s$", result.stdout, re.MULTILINE)) == len(CHECKS)
    assert result.stdout.splitlines()[-1].startswith("install.sh: everything passed")


def test_everyday_leaves_the_slow_tests_out(checkout):
    assert checkout.run("test", "--everyday").returncode == 0
    assert not any("pytest -m slow" in call for call in checks_run(checkout))


def test_a_failed_check_stops_none_of_the_others_and_is_named_at_the_end(checkout):
    checkout.fake("shellcheck", status=1)

    result = checkout.run("test", FAKE_RUFF_STATUS="2")

    assert result.returncode == 1
    assert len(checks_run(checkout)) == len(CHECKS)
    assert "== lint (ruff check): FAILED (exit status 2)" in result.stdout
    assert [line.strip() for line in result.stderr.splitlines()[1:]] == [
        "shell scripts (shellcheck)",
        "lint (ruff check)",
        "format (ruff format)",
    ]


def test_ci_calls_the_same_command(checkout):
    checkout.fake("echo-arguments")
    (checkout.folder / "install.sh").write_text('#!/bin/sh\nexec echo-arguments "$@"\n')

    assert checkout.run(script=".ci/run").returncode == 0
    assert checkout.calls() == ["echo-arguments test"]


@pytest.mark.slow
def test_a_real_environment_is_made_and_a_missing_index_is_said(checkout):
    """The interpreter that runs this test, its own venv and pip; no network is needed to fail."""
    settings = {"OUTSTATION_PYTHON": sys.executable, "PIP_NO_INDEX": "1", "PIP_CONFIG_FILE": "/dev/null"}

    first = checkout.run("demo", **settings)
    second = checkout.run("demo", **settings)

    assert first.returncode == second.returncode == 1
    version = ".".join(map(str, sys.version_info[:3]))
    assert f"making a virtual environment in .venv with Python {version} (" in first.stdout
    assert "No matching distribution found" in first.stderr
    assert "the packages could not be installed" in first.stderr
    assert "making" not in second.stdout, "the environment was fine"
