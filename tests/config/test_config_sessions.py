"""Two parts of one configuration never take a broker's session from each other."""

import re

import pytest

from agent.composition import catalogue
from agent.config import ConfigurationError, load_config

HALL = '[[source]]\nid = "hall"\ndriver = "mqtt"\nurl = "{hall}"\ntopics = ["a"]\n{extra}\n'
YARD = '[[source]]\nid = "yard"\ndriver = "mqtt"\nurl = "{yard}"\ntopics = ["a"]\n{extra}\n'
CLOUD = '[[upstream]]\ndriver = "mqtt"\nurl = "{cloud}"\ntls = false\n{extra}\n'


def load(tmp_path, *parts):
    file = tmp_path / "outstation.toml"
    file.write_text("\n".join(parts))
    return load_config(file, catalogue())


def hall(url="mqtt://broker", extra=""):
    return HALL.format(hall=url, extra=extra)


def yard(url="mqtt://broker", extra=""):
    return YARD.format(yard=url, extra=extra)


def cloud(url="mqtt://broker", extra=""):
    return CLOUD.format(cloud=url, extra=extra)


DEVICE = '[device]\nid = "pi"\n'
OWN = 'client_id = "x"'


@pytest.mark.parametrize(
    "parts",
    [
        (hall(), yard(), cloud()),
        (hall(), cloud(extra='name = "a"'), cloud(extra='name = "b"')),
        (DEVICE, hall(), yard(), cloud()),
        (hall(extra=OWN), yard("mqtt://other", OWN)),
        (hall(extra=OWN), yard("mqtt://broker:1884", OWN)),
        (hall(extra=OWN), yard(extra='client_id = "y"')),
        (hall(extra='client_id = "pi-yard"'), yard()),  # the device's id is not known here
    ],
)
def test_each_has_a_session_of_its_own(tmp_path, parts):
    load(tmp_path, *parts)


@pytest.mark.parametrize(
    ("parts", "where", "other"),
    [
        ((hall(extra=OWN), yard(extra=OWN)), "source[1].client_id", "source[0]"),
        ((hall(extra=OWN), yard("mqtt://broker:1883", OWN)), "source[1].client_id", "source[0]"),
        ((hall("mqtt://u@BROKER", OWN), yard(extra=OWN)), "source[1].client_id", "source[0]"),
        ((hall(extra=OWN), cloud(extra=OWN)), "upstream[0].client_id", "source[0]"),
        ((DEVICE, hall(extra='client_id = "pi-yard"'), yard()), "source[1]", "source[0]"),
        ((DEVICE, hall(extra='client_id = "outstation-pi"'), cloud()), "upstream[0]", "source[0]"),
    ],
)
def test_a_client_id_that_two_have_at_one_broker_is_told(tmp_path, parts, where, other):
    with pytest.raises(ConfigurationError) as error:
        load(tmp_path, *parts)
    (problem,) = error.value.problems
    assert problem.where == where
    assert re.search(
        rf"has the same client id as {re.escape(other)} \(outstation.toml:\d+\) at the same broker",
        problem.message,
    )
