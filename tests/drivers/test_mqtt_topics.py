"""Topic filters with names, held against paho's own matching and against enumeration."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from drivers.mqtt.topics import TopicError, parse_template, parse_templates

TEXTS = st.sampled_from(["a", "b", "", "$SYS", "ä"])
TOPICS = st.lists(TEXTS, min_size=1, max_size=4).map("/".join).filter(bool)


@st.composite
def templates(draw):
    levels = draw(st.lists(st.one_of(TEXTS, st.sampled_from(["+", "{}"])), min_size=1, max_size=4))
    named = [f"{{n{place}}}" if level == "{}" else level for place, level in enumerate(levels)]
    if draw(st.booleans()):
        named[-1] = "#"
    text = "/".join(named)
    return text or "a"


def test_named_levels_say_what_they_are():
    template = parse_template("sensors/{room}/{metric}")
    assert template.filter == "sensors/+/+"
    assert template.match("sensors/kitchen/temperature") == {"room": "kitchen", "metric": "temperature"}
    assert template.match("sensors/kitchen") is None
    assert template.match("sensors/kitchen/temperature/now") is None
    assert template.match("actors/kitchen/temperature") is None


def test_names_wildcards_and_texts_go_together():
    template = parse_template("{site}/+/out/{device}/#")
    assert template.filter == "+/+/out/+/#"
    assert template.match("north/x/out/d1") == {"site": "north", "device": "d1"}
    assert template.match("north/x/out/d1/a/b") == {"site": "north", "device": "d1"}
    assert template.match("north/x/in/d1/a") is None


def test_a_shared_subscription_has_its_group_for_the_broker_only():
    template = parse_template("$share/pis/sensors/{room}")
    assert template.shared
    assert template.filter == "$share/pis/sensors/+"
    assert template.match("sensors/hall") == {"room": "hall"}
    assert not parse_template("sensors/{room}").shared


@given(templates(), TOPICS)
def test_it_matches_what_its_filter_matches(text, topic):
    template = parse_template(text)
    found = template.match(topic)
    assert (found is not None) == topic_matches_sub(template.filter, topic)
    if found:
        levels = topic.split("/")
        assert found == {f"n{place}": levels[place] for place in range(len(levels)) if f"n{place}" in found}


ALL_TOPICS = [
    topic
    for depth in range(1, 6)
    for levels in itertools.product(["a", "b", "", "$SYS", "ä"][: 5 if depth < 5 else 3], repeat=depth)
    if (topic := "/".join(levels))
]


@given(templates(), templates())
@example("+", "/#")
def test_two_overlap_when_some_topic_belongs_to_both(one, other):
    first, second = parse_template(one), parse_template(other)
    # A topic that is deeper than both is told by what is not; "a" and "b" stand for all other texts.
    both = [
        topic for topic in ALL_TOPICS if first.match(topic) is not None and second.match(topic) is not None
    ]
    assert first.overlaps(second) == bool(both), both[:3]
    assert first.overlaps(second) == second.overlaps(first)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "1 to 65535"),
        ("a\0", "NUL"),
        ("a" * 65536, "1 to 65535"),
        ("a/#/b", "last level"),
        ("a#", "last level"),
        ("a/b+", "whole level"),
        ("a/x{room}", "whole level"),
        ("a/{room", "whole level"),
        ("a/{}", "whole level"),
        ("a/{2nd}", "whole level"),
        ("a/{a b}", "whole level"),
        ("a/{room}/{room}", "two levels"),
        ("a/{topic}", "another name"),
        ("$share/a", "GROUP"),
        ("$share//a", "GROUP"),
        ("$share/g/", "GROUP"),
        ("$share/+/a", "GROUP"),
    ],
)
def test_what_is_wrong_is_named(text, reason):
    with pytest.raises(TopicError, match=reason):
        parse_template(text)


@pytest.mark.parametrize(
    "texts",
    [
        ["sensors/#", "sensors/{room}/temperature"],
        ["a/{x}", "a/b"],
        ["a", "a/#"],
        ["$share/g/a/+", "a/{x}"],
        ["a", "a"],
    ],
)
def test_two_that_take_the_same_messages_are_refused(texts):
    with pytest.raises(TopicError, match="kept twice"):
        parse_templates(texts)


def test_several_that_do_not_are_kept_in_order():
    texts = ["a/{x}/t", "a/{x}/h", "b/#", "$SYS/#"]
    assert [template.text for template in parse_templates(texts)] == texts
