"""The lock files hold what pyproject.toml asks for, with hashes, and name no host."""

import re
import tomllib
from functools import cache

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.install.checkout import REPOSITORY

NAMES = ["run", "demo", "build", "test"]


@cache
def pins(name: str) -> dict[str, Requirement]:
    text = (REPOSITORY / f"requirements/{name}.lock").read_text()
    lines = re.findall(r"^[^\s#][^\\\n]*", text, re.MULTILINE)
    return {canonicalize_name(pin.name): pin for pin in map(Requirement, lines)}


def asked_for() -> dict[str, list[str]]:
    """The direct requirements that each lock answers."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    run = settings["project"]["dependencies"]
    extras = settings["project"]["optional-dependencies"]
    groups = settings["dependency-groups"]
    return {
        "run": run,
        "demo": [*run, *extras["demo"], *extras["http"]],
        "build": groups["build"],
        "test": [
            *run,
            *(one for extra in extras.values() for one in extra),
            *groups["build"],
            *groups["test"],
        ],
    }


@pytest.mark.parametrize("name", NAMES)
def test_every_direct_requirement_is_locked_at_a_version_that_fits(name):
    for requirement in map(Requirement, asked_for()[name]):
        if requirement.name == "outstation":
            continue
        pin = pins(name).get(canonicalize_name(requirement.name))
        assert pin, f"{requirement} is not in {name}.lock: run requirements/lock.sh"
        (exact,) = pin.specifier
        assert exact.operator == "=="
        assert requirement.specifier.contains(exact.version), (
            f"{pin} is not {requirement}: run requirements/lock.sh"
        )


def test_the_build_system_is_locked():
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    for requirement in map(Requirement, settings["build-system"]["requires"]):
        (exact,) = pins("build")[canonicalize_name(requirement.name)].specifier
        assert requirement.specifier.contains(exact.version)


@pytest.mark.parametrize("name", NAMES[:-1])
def test_all_locks_agree(name):
    for package, pin in pins(name).items():
        assert pin.specifier == pins("test")[package].specifier


@pytest.mark.parametrize("name", NAMES)
def test_every_pin_has_hashes_and_no_line_names_a_host(name):
    text = (REPOSITORY / f"requirements/{name}.lock").read_text()
    assert "://" not in text
    assert not re.search(r"--(extra-|default-)?index|--find-links|--trusted-host| @ ", text)
    assert not re.search(r"\b[a-z0-9-]+\.(com|org|net|io|dev)\b", text)
    entries = re.split(r"^(?=[^\s#])", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(pins(name))
    for entry in entries:
        assert "--hash=sha256:" in entry, entry


def test_an_agent_on_a_device_gets_nothing_from_the_tests_or_the_demo():
    assert len(pins("run")) < len(pins("demo")) < len(pins("test"))
    assert not {"rich", "aiohttp", "pytest"} & pins("run").keys()
