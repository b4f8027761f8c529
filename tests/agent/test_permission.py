"""What to do about a place that belongs to somebody else."""

import os
from pathlib import Path

import pytest

from agent.permission import remedy


@pytest.fixture
def somebody_else(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)


def denied(*names):
    return PermissionError(13, "Permission denied", *names)


def caused(error):
    try:
        raise ConnectionError(str(error)) from error
    except ConnectionError as raised:
        return raised


def test_a_file_system_that_was_just_made_is_to_be_given_to_us(tmp_path, somebody_else, monkeypatch):
    monkeypatch.setattr(Path, "is_mount", lambda place: place == tmp_path)
    path = tmp_path / "buffer"
    said = f"{tmp_path} belongs to {tmp_path.owner()}: `sudo chown 3999999999: {tmp_path}`, and it goes on by itself"
    assert remedy(denied(str(path)), path) == said
    assert remedy(caused(denied(str(path))), path) == said
    assert remedy(denied(), path) == said


def test_a_folder_of_everybodys_stays_what_it_is(tmp_path, somebody_else):
    path = tmp_path / "mine" / "buffer"
    said = remedy(denied(str(path.parent)), path)
    assert said.startswith(f"{tmp_path} belongs to ")
    assert f"`sudo install -d -m 750 -o 3999999999 {path}`" in said


@pytest.mark.parametrize("name", ["", ".lock", "readings/a.json"])
def test_a_buffer_that_somebody_else_made_is_to_be_given_to_us_whole(tmp_path, somebody_else, name):
    path = tmp_path / "buffer"
    (path / name).parent.mkdir(parents=True, exist_ok=True)
    (path / name).touch()
    assert f"`sudo chown -R 3999999999: {path}`" in remedy(denied(str(path / name)), path)


def test_nothing_is_said_where_that_is_not_it(tmp_path, somebody_else, monkeypatch):
    assert remedy(OSError(5, "Input/output error"), tmp_path) == ""
    assert remedy(caused(OSError(30, "Read-only file system")), tmp_path) == ""
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid)
    assert remedy(denied(str(tmp_path)), tmp_path) == "", "it is ours: its mode, or a rule of the kernel's"
