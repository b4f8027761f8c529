"""No secret gets through, wherever it stands; what is none stays."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.support.bundle import Bundle
from agent.support.redaction import LEFT_OUT, Redaction, variables_of

CANARY = "c4n4ry"


@pytest.mark.parametrize(
    "line",
    [
        f'password = "{CANARY}"',
        f'api_key = "{CANARY}"',
        f'key = "{CANARY}"',
        f'token = ["{CANARY}"]',
        f'secrets = {{ any = "{CANARY}" }}',
        f'password = {{ file = ["{CANARY}"] }}',
        f'url = "mqtts://user:{CANARY}@broker:8883"',
        f'url = "https://{CANARY}@cloud/readings"',
        f'url = "https://cloud/readings?sig={CANARY}&x=1"',
        f'url = "https://tb/api/v1/{CANARY}/telemetry"',
        f"x = 1 # the password is {CANARY}",
        f'pin = {{ a = {{ b = "{CANARY}" }} }}',
        f'[source.codec]\nmqtt_passwd = """\n{CANARY}\n"""',
    ],
)
@pytest.mark.parametrize("spoilt", ["", "\n[not toml\n"])
def test_a_configuration_is_told_without_its_secrets(line, spoilt):
    told = Redaction([]).configuration(line + spoilt)
    assert CANARY not in told
    if not spoilt:
        json.loads(told)


def test_where_a_secret_is_and_all_else_stays():
    told = Redaction([]).configuration(
        'id = "hall"\nurl = "mqtt://broker"\npassword = { credential = "cloud" }\ntokens_per_s = 5\n'
    )
    assert json.loads(told) == {
        "id": "hall",
        "url": "mqtt://broker",
        "password": {"credential": "cloud"},
        "tokens_per_s": LEFT_OUT,
    }


@pytest.mark.parametrize(
    "text",
    [
        f"cannot reach mqtt://u:{CANARY}@broker: refused",
        f"POST https://cloud/x?token={CANARY}: 401",
        f"Authorization: Bearer {CANARY}",
        f"password={CANARY}, again",
        f"password=`a{CANARY}",
        f'{{"token": "{CANARY}"}}',
    ],
)
def test_a_text_is_told_without_what_looks_like_a_secret(text):
    assert CANARY not in Redaction([]).text(text)


@pytest.mark.parametrize(
    "said",
    [
        "the password cannot be read: there is no file /etc/outstation/secrets/cloud",
        "  outstation.toml:13: upstream[0].token: there is no file /nope/x",
        "source[12].password: should be a table, such as { key = value } (found a secret, not shown)",
        "source[0].codec.api_key: a secret does not stand in the configuration; say where it is",
        "upstream[0]: ThingsBoard needs the device's access token: `token`",
    ],
)
def test_what_speaks_about_a_secret_stays(said):
    assert Redaction([]).text(said) == said


def test_beside_what_speaks_about_a_secret_secrets_are_left_out():
    said = f"upstream[0].token: it is no url: mqtt://u:{CANARY}@x; token: {CANARY}; or {CANARY}2 "
    assert CANARY not in Redaction([f"{CANARY}2"]).text(said)


@given(st.text(min_size=4, max_size=20), st.text(max_size=30), st.text(max_size=30))
def test_a_secret_that_is_known_is_found_in_everything(secret, before, after):
    redaction = Redaction([secret])
    for text in (before + secret + after, json.dumps({"x": before + secret + after})):
        told = redaction.known(text)
        if secret not in LEFT_OUT:
            assert json.dumps(secret)[1:-1] not in told.replace(LEFT_OUT, "\0")


def test_variables_are_found_wherever_they_stand():
    document = {"upstream": [{"password": {"env": "A"}, "retry": {"token": {"env": "B"}}}], "x": {"env": 3}}
    assert sorted(variables_of(document)) == ["A", "B"]


def test_a_long_part_keeps_its_end_and_no_half_of_a_secret(monkeypatch):
    monkeypatch.setattr("agent.support.bundle.PART_CHARS_MAX", 1000)
    for at in range(985, 1015):
        bundle = Bundle("folder", Redaction([CANARY]))
        bundle.add("log", "a log", "old\n" * 1000 + CANARY + "." * at + "newest")
        assert bundle.parts[0].text.endswith("newest")
        assert len(bundle.parts[0].text) < 1100
        assert not any(CANARY[start:] + "." in bundle.parts[0].text for start in range(3))
