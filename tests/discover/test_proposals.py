"""What is proposed for what was heard: it loads, and keeps nothing twice."""

import json
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.composition import catalogue
from agent.config import load_config
from agent.discover.text import toml
from drivers.discovery import Finding
from drivers.framing import FRAMINGS
from drivers.mqtt.proposal import SOURCES_MAX, TOPICS_MAX, propose
from drivers.mqtt.topics import parse_template
from drivers.serial.proposal import recognise

URL = "mqtt://broker"


def sources(findings):
    return [finding.source for finding in findings if finding.source is not None]


def loaded(findings, tmp_path):
    file = tmp_path / "found.toml"
    file.write_text(toml(findings))
    return load_config(file, catalogue()).source


def test_what_is_known_gets_its_preset_and_the_rest_a_shape(tmp_path):
    findings = propose(
        URL,
        {
            "zigbee2mqtt/attic": [b'{"temperature":27.3}'],
            "zigbee2mqtt/bridge/state": [b"online"],
            "tele/plug/SENSOR": [b'{"Time":"2019-01-01T00:00:00","ENERGY":{"Power":3}}'],
            "node/sensor/temperature/state": [b"21.5", b"21.6"],
            "homeassistant/sensor/x/config": [b'{"name":"x"}'],
            "house/kitchen/temperature": [b"21.5"],
            "house/hall/humidity": [b"40"],
            "meters/m1": [b'{"kWh": 12.5}'],
            "meters/m2": [b'{"kWh": 13.5}'],
            "senml/x": [b'[{"n":"t","v":1}]'],
            "house/status": [b"all is well"],
        },
    )
    found = loaded(findings, tmp_path)
    assert [source.options.preset for source in found[:3]] == ["zigbee2mqtt", "tasmota", "esphome"]
    shapes = {source.options.topics[0]: source.codec.type for source in found[3:]}
    assert shapes == {"house/{level2}/{metric}": "plain", "meters/{level2}": "json", "senml/x": "senml"}
    assert findings[-1] == Finding("1 topics say nothing that could be decoded, such as house/status")


def test_topics_of_one_shape_that_say_different_things_are_listed(tmp_path):
    findings = propose(URL, {"a/1/x": [b"1"], "a/2/y": [b'{"v":1}'], "a/3/x": [b"3"]})
    found = loaded(findings, tmp_path)
    topics = {source.codec.type: source.options.topics for source in found}
    assert topics == {"json": ["a/2/y"], "plain": ["a/{level2}/x"]}
    mixed = loaded(
        propose(URL, {"a/1": [b"1"], "a/2": [b'{"v":1}'], "a/3": [b"3"], "a/4": [b'{"v":1}']}), tmp_path
    )
    assert sorted(source.options.topics for source in mixed) == [["a/1", "a/3"], ["a/2", "a/4"]]


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "heard",
    [
        {f"device-{number}/power": [b"1"] for number in range(5000)},
        {f"a/{number}": [b"1" if number % 2 else b'{"v":1}'] for number in range(5000)},
    ],
    ids=["each_begins_differently", "two_kinds_mixed"],
)
def test_thousands_of_topics_become_a_proposal_that_can_be_looked_through_at_once(heard, tmp_path):
    findings = propose(URL, heard)
    found = loaded(findings, tmp_path)
    assert 1 <= len(found) <= SOURCES_MAX
    assert all(len(source.options.topics) <= TOPICS_MAX for source in found)
    assert "left out" in toml(findings)


LEVELS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=4
) | st.sampled_from(["a", "b", "{x}", "state"])
TOPICS = (
    st.lists(LEVELS, min_size=1, max_size=4).map("/".join).filter(lambda topic: not topic.startswith("$"))
)
PAYLOADS = st.sampled_from([b"1", b"ON", b'{"t":1}', b'[{"n":"a","v":1}]', b"what?", b""])


@settings(max_examples=60)
@given(
    st.dictionaries(
        TOPICS.filter(lambda t: "+" not in t and "#" not in t),
        st.lists(PAYLOADS, min_size=1, max_size=3),
        max_size=12,
    )
)
def test_whatever_is_heard_the_proposal_loads_and_takes_no_message_twice(tmp_path_factory, heard):
    findings = propose(URL, heard)
    if not sources(findings):
        return
    found = loaded(findings, tmp_path_factory.mktemp("found"))
    templates = [parse_template(text) for source in found for text in source.options.topics]
    for topic in heard:
        assert sum(template.match(topic) is not None for template in templates) <= 1, topic


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.text(max_size=20), st.text(max_size=10), st.text(max_size=20)), min_size=1, max_size=4
    )
)
def test_any_text_can_stand_in_a_proposal(tmp_path_factory, texts):
    findings = [
        Finding(what, {"id": name, "driver": "mqtt", "url": URL, "topics": ["a"], "tags": {tag: tag}}, [what])
        for what, name, tag in texts
    ]
    found = loaded(findings, tmp_path_factory.mktemp("found"))
    assert [source.tags for source in found] == [{tag: tag} for _, _, tag in texts]


# Serial

LINES = {
    "json": b'{"t": 21.5, "n": %d}\r\n',
    "key_value": b"t=21.5 n=%d\n",
    "plain": b"%d\n",
}


@pytest.mark.parametrize("codec", LINES)
@pytest.mark.parametrize("cut", [0, 3])
def test_lines_are_recognised(codec, cut):
    heard = b"".join(LINES[codec] % number for number in range(10))[cut:-2]
    spoken = recognise(heard)
    assert (spoken.framing, spoken.codec) == ("lines", codec)


def test_nmea_and_columns_are_recognised():
    heard = b"$GPGGA,184353.07,1929.045,S,02410.506,E,1,04,2.6,100.00,M,-33.9,M,,0000*6D\r\n" * 3
    assert recognise(heard).codec == "nmea"
    spoken = recognise(b"1.5;20;3\n1.6;21;4\n1.7;22;5\n")
    assert spoken.codec == {"type": "csv", "columns": ["column1", "column2", "column3"], "delimiter": ";"}
    assert spoken.notes == ["name the columns, and the units"]


@pytest.mark.parametrize("crc", ["crc16", "crc32"])
@pytest.mark.parametrize("frame", [b'{"t": %d}', b"\x01\x02\x00%c"])
def test_cobs_is_recognised_by_its_check_sequence(crc, frame):
    framing = FRAMINGS.choose({"type": "cobs", "crc": crc})
    heard = b"".join(framing.encode(frame % number) for number in range(1, 9))
    spoken = recognise(heard)
    assert spoken.framing == {"type": "cobs", "crc": crc}
    assert (spoken.codec if isinstance(spoken.codec, str) else spoken.codec["type"]) == (
        "json" if b"t" in frame else "struct"
    )


@given(st.binary(max_size=300))
def test_noise_is_nothing_or_something_that_loads(heard):
    spoken = recognise(heard)
    if spoken is not None:
        json.dumps([spoken.framing, spoken.codec])
        struct.calcsize("B")


def test_noise_of_a_wrong_baud_rate_is_nothing():
    assert recognise(bytes(range(128, 256)) * 20) is None
    assert recognise(b"") is None
