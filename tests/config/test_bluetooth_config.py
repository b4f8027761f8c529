"""What is checked of Bluetooth sources before anything starts."""

import sys

import pytest

from agent.composition import catalogue
from agent.composition.parts import registration_of
from agent.config import ConfigurationError, load_config

DEVICE = '[device]\nid = "pi"\n[buffer]\npath = "buffer"\n'
HALL = '[[source]]\nid = "hall"\ndriver = "ble"\naddress = "A4:C1:38:12:34:56"\n'
GREEN = '[[source]]\nid = "green"\ndriver = "gatt"\naddress = "A4:C1:38:12:34:56"\nnotify = ["temperature"]\n'


def load(folder, text, **options):
    path = folder / "agent.toml"
    path.write_text(DEVICE + text)
    return load_config(path, catalogue(), **options)


def problems(folder, text, **options):
    with pytest.raises(ConfigurationError) as caught:
        load(folder, text, **options)
    return str(caught.value)


def test_a_key_file_is_looked_for_beside_the_configuration(tmp_path):
    text = HALL + 'codec = { type = "bthome", key = { file = "hall.key" } }\n'
    assert "there is no file" in problems(tmp_path, text, check_files=True)
    (tmp_path / "hall.key").write_text("231d39c1d7cc1ab1aee224cd096db932")
    config = load(tmp_path, text, check_files=True)
    assert config.source[0].codec.key.file == tmp_path / "hall.key"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HALL + 'codec = "json"\n', "which bytes of an advertisement are for the codec 'json'?"),
        (HALL + 'codec = "gatt"\n', 'reads characteristics, not advertisements: that is `driver = "gatt"`'),
        (GREEN + 'codec = "bthome"\n', 'reads advertisements, not characteristics: that is `driver = "ble"`'),
    ],
)
def test_a_codec_that_does_not_fit_is_told_with_what_would(tmp_path, text, message):
    told = problems(tmp_path, text)
    assert message in told
    assert "source[0].codec" in told


def test_what_waits_by_itself_is_tried_again_soon(tmp_path):
    config = load(tmp_path, HALL + 'codec = "bthome"\n' + GREEN + 'codec = "gatt"\n')
    hall, green = map(registration_of, config.source)
    assert hall["retry_cap_s"] == green["retry_cap_s"] == 5.0
    assert green["connect_timeout_s"] == 240.0


def test_an_extra_that_is_missing_is_named_before_anything_starts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "bleak", None)
    monkeypatch.setitem(sys.modules, "bthome_ble", None)
    told = problems(tmp_path, HALL + 'codec = "bthome"\n')
    assert "pip install 'outstation[ble]'" in told
    assert "pip install 'outstation[bthome]'" in told
