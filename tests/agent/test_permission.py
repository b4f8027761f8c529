"""What to do about a place that belongs to somebody else."""

import os

import pytest

from agent.permission import remedy


@pytest.fixture
def somebody_else(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 3_999_999_999)


def denied(path, *names):
    return PermissionError(13, "Permission denied", *names or (str(path / "buffer"),))


def caused(error):
    try:
        raise ConnectionError(str(error)) from error
    except ConnectionError as raised:
        return raised


def test_whose_the_nearest_folder_is_and_how_to_make_it_ours_is_said(tmp_path, somebody_else):
    owner = remedy(denied(tmp_path), tmp_path).split(" belongs to ")[1].split(":")[0]
    expected = (
        f"{tmp_path} belongs to {owner}: `sudo chown 3999999999: {tmp_path}`, and it goes on by itself "
    )
    assert owner
    assert remedy(denied(tmp_path), tmp_path).startswith(expected)
    assert remedy(caused(denied(tmp_path)), tmp_path).startswith(expected)
    assert remedy(denied(tmp_path, None), tmp_path / "no" / "such").startswith(expected)


def test_a_file_of_somebody_else_is_named_itself(tmp_path, somebody_else):
    (tmp_path / "buffer").touch()
    assert remedy(denied(tmp_path), tmp_path).startswith(f"{tmp_path}/buffer belongs to ")


def test_nothing_is_said_where_that_is_not_it(tmp_path, somebody_else, monkeypatch):
    assert remedy(OSError(5, "Input/output error"), tmp_path) == ""
    assert remedy(caused(OSError(30, "Read-only file system")), tmp_path) == ""
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid)
    assert remedy(denied(tmp_path), tmp_path) == "", "it is ours: its mode, or a rule of the kernel's"
