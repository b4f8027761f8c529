import pytest

from agent.config import socket_named_in

USUAL = "/var/lib/outstation/buffer/agent.sock"


@pytest.mark.parametrize(
    ("text", "socket"),
    [
        ('[buffer]\npath = "kept"\n', "kept/agent.sock"),
        ('[buffer]\npath = "/var/kept"  # here\nquota = nonsense\n', "/var/kept/agent.sock"),
        ("[[source]]\nid = \n[buffer]\npath = 'kept'\n", "kept/agent.sock"),
        ('[buffer]\npath = "kept"\n[agent]\nsocket = "/run/o.sock"\n[[source]\n', "/run/o.sock"),
        ("[buffer]\npath = 5\n", None),
        ('path = "elsewhere"\n[[source]]\npath = "not this"\n=\n', USUAL),
        ("nonsense", USUAL),
        ("", USUAL),
        ('buffer = "x"', USUAL),
        ('[buffer]\npath = "\\u0000"', None),
    ],
)
def test_the_socket_is_found_whatever_else_is_wrong(tmp_path, text, socket):
    path = tmp_path / "outstation.toml"
    path.write_text(text)
    assert socket_named_in(path) == (None if socket is None else tmp_path / socket)


def test_a_file_that_is_not_there_names_none(tmp_path):
    assert socket_named_in(tmp_path / "none.toml") is None
