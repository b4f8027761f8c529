"""A secret is told by where it is, and shown nowhere."""

import pickle
import ssl
from pathlib import Path

import pytest
from pydantic import ValidationError

from drivers.transport.credentials import TlsFiles
from drivers.transport.secret import SECRET_BYTES_MAX, Secret, SecretError
from tests.rigs.certificates import make_certificates


def at(place, **context):
    return Secret.model_validate(place, context=context)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """One secret in each kind of place."""
    (tmp_path / "word").write_text("canary\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("WORD", "canary")
    return [{"file": "word"}, {"env": "WORD"}, {"credential": "word"}]


def test_each_place_gives_it_without_the_newline_of_editors_and_does_not_show_it(places, tmp_path):
    for place in places:
        secret = at(place, folder=tmp_path, check_files=True)
        assert secret.read() == "canary"
        shown = [repr(secret), str(secret), secret.place, secret.model_dump_json(), repr(secret.__dict__)]
        assert not any("canary" in text for text in shown)
        with secret.as_file() as path:
            assert Path(path).read_text().rstrip("\n") == "canary"
        assert not path.startswith("/proc") or not Path(path).exists()


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("hunter2", "a secret does not stand in the configuration"),
        ({}, "say where the secret is"),
        ({"file": "a", "env": "B"}, "`file` and `env` say two places"),
        ({"env": "hunter-2"}, "the name of a variable, not its value"),
        ({"credential": "../x"}, "not a path"),
        ({"credential": ""}, "not a path"),
        ({"file": "word", "mode": 3}, "Extra inputs"),
    ],
)
def test_what_names_no_place_is_refused(place, says):
    with pytest.raises(ValidationError, match=says):
        at(place)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ({"file": "none"}, "there is no file"),
        ({"file": "empty"}, "is empty"),
        ({"file": "folder"}, "Is a directory"),
        ({"file": "x" * 300}, "File name too long"),
        ({"file": "latin"}, "is not UTF-8 text"),
        ({"file": "long"}, "it is no secret"),
        ({"env": "NOT_THERE"}, "there is no variable NOT_THERE in the environment"),
        ({"credential": "none"}, "LoadCredential=none:/path"),
    ],
)
def test_what_is_not_there_is_said_with_its_remedy(tmp_path, monkeypatch, place, says):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "latin").write_bytes("pässword".encode("latin-1"))
    (tmp_path / "long").write_bytes(b"x" * (SECRET_BYTES_MAX + 1))
    secret = at(place, folder=tmp_path, note_secrets=True)
    with pytest.raises(SecretError, match=says) as caught:
        secret.read()
    assert "ssword" not in str(caught.value)
    with pytest.raises(ValidationError, match=says):
        at(place, folder=tmp_path, check_files=True)


def test_a_credential_that_the_unit_does_not_load_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(SecretError, match="there is no credential word in"):
        at({"credential": "word"}).read()


def test_another_secret_makes_another_configuration_only_where_it_is_noted(places, tmp_path, monkeypatch):
    before = [at(place, folder=tmp_path, note_secrets=True) for place in places]
    unnoted = [at(place, folder=tmp_path) for place in places]
    assert before == [at(place, folder=tmp_path, note_secrets=True) for place in places]
    (tmp_path / "word").write_text("sesame")
    monkeypatch.setenv("WORD", "sesame")
    after = [at(place, folder=tmp_path, note_secrets=True) for place in places]
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert unnoted == [at(place, folder=tmp_path) for place in places]
    assert b"sesame" not in pickle.dumps(after)


def test_the_key_of_a_certificate_may_be_in_the_environment(tmp_path, monkeypatch):
    files = make_certificates(tmp_path)
    monkeypatch.setenv("DEVICE_KEY", files.client_key_file.read_text())
    context = TlsFiles(files.ca_file, files.client_cert_file, Secret(env="DEVICE_KEY")).context()
    assert isinstance(context, ssl.SSLContext)
    monkeypatch.setenv("DEVICE_KEY", files.server_key_file.read_text())
    with pytest.raises(ssl.SSLError):
        TlsFiles(files.ca_file, files.client_cert_file, Secret(env="DEVICE_KEY")).context()


def test_a_credential_is_found_in_a_folder_that_the_unit_loads_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    (tmp_path / "secrets_word").write_text("sesame\n")
    assert at({"credential": "word"}).read() == "sesame"


def test_a_credential_is_found_beside_the_configuration_where_systemd_hands_out_none(tmp_path, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/word").write_text("sesame\n")
    assert at({"credential": "word"}, folder=tmp_path).read() == "sesame"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "handed"))
    with pytest.raises(SecretError, match="there is no credential word in"):
        at({"credential": "word"}, folder=tmp_path).read()
