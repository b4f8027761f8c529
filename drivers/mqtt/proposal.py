"""Which sources would collect what was heard at a broker. Pure: topics and payloads in, proposals out.

Topics of Zigbee2MQTT, Tasmota and ESPHome are known by their shape. The others are put together by what their payloads are, how
many levels they have and how they begin; a level that differs becomes a name.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from drivers.codecs import codec
from drivers.discovery import Finding
from drivers.mqtt.presets import PRESETS
from drivers.mqtt.topics import TopicTemplate, parse_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CODECS: Final = ("plain", "senml", "json")
"""In this order: the first that takes all payloads of a topic."""
OTHERS: Final = ("homeassistant/", "outstation/", "zigbee2mqtt/bridge/")
"""What these say is no measurement."""
TOPICS_MAX: Final = 20
"""Single topics that one proposal lists."""


def propose(url: str, heard: Mapping[str, Sequence[bytes]]) -> list[Finding]:
    """The proposals for a broker.

    Args:
        url: The broker's.
        heard: Payloads by topic.
    """
    left = {topic: payloads for topic, payloads in heard.items() if not topic.startswith(OTHERS)}
    findings: list[Finding] = []
    taken: list[TopicTemplate] = []
    for preset, keys in PRESETS.items():
        templates = [parse_template(text) for text in keys["topics"]]
        mine = {
            topic: payloads
            for topic, payloads in left.items()
            if any(template.match(topic) is not None for template in templates)
            and (_codec_of(payloads) is not None and _codec_of(payloads) == _codec_of_preset(preset))
        }
        if mine:
            taken += templates
            left = {topic: payloads for topic, payloads in left.items() if topic not in mine}
            source = {"id": preset, "driver": "mqtt", "url": url, "preset": preset}
            findings.append(Finding(f"{preset}: {_counted(mine)}", source))
    silent: list[str] = []
    for name, topics in _groups(left, silent).items():
        others = [topic for topic in heard if topic not in topics]
        findings.append(_finding(url, name, topics, others, taken, len(findings)))
    if silent:
        shown = ", ".join(silent[:3])
        findings.append(Finding(f"{len(silent)} topics say nothing that could be decoded, such as {shown}"))
    return findings


def _codec_of_preset(preset: str) -> str:
    chosen: Any = PRESETS[preset]["codec"]
    return str(chosen if isinstance(chosen, str) else chosen["type"])


def _codec_of(payloads: Iterable[bytes]) -> str | None:
    """The codec that takes all of them."""
    for name in CODECS:
        decode = codec(name)
        try:
            for payload in payloads:
                decode(payload)
        except ValueError:
            continue
        return name
    return None


def _groups(
    heard: Mapping[str, Sequence[bytes]], silent: list[str]
) -> dict[tuple[str, str, int], dict[str, Sequence[bytes]]]:
    """Topics that belong together: by codec, first level and number of levels."""
    groups: dict[tuple[str, str, int], dict[str, Sequence[bytes]]] = defaultdict(dict)
    for topic in sorted(heard):
        found = _codec_of(heard[topic])
        if found is None:
            silent.append(topic)
            continue
        first, *rest = topic.split("/")
        groups[found, first, len(rest)][topic] = heard[topic]
    return groups


def _finding(
    url: str,
    name: tuple[str, str, int],
    topics: Mapping[str, Sequence[bytes]],
    others: Sequence[str],
    taken: list[TopicTemplate],
    number: int,
) -> Finding:
    codec_name, first, _ = name
    text = _template(list(topics), plain=codec_name == "plain")
    template = parse_template(text)
    notes = []
    texts = [text]
    if any(map(template.overlaps, taken)) or any(template.match(topic) is not None for topic in others):
        # Two sources would keep the same messages twice, or one would get what is none of its own.
        texts = []
        for topic in topics:
            single = parse_template(_escaped(topic))
            if not any(map(single.overlaps, [*taken, *map(parse_template, texts)])):
                texts.append(single.text)
        notes.append("its topics are listed one by one, since others of the same shape say something else")
        if len(topics) > len(texts[:TOPICS_MAX]):
            notes.append(f"{len(topics) - len(texts[:TOPICS_MAX])} of its topics are left out")
        texts = texts[:TOPICS_MAX]
    if not texts:
        return Finding(f"{_counted(topics)} {codec_name} below {first}, of topics that are collected already")
    taken += [parse_template(text) for text in texts]
    source: dict[str, Any] = {
        "id": f"mqtt-{number + 1}",
        "driver": "mqtt",
        "url": url,
        "topics": texts,
        "codec": codec_name,
    }
    return Finding(f"{_counted(topics)} {codec_name} below {first}", source, notes)


def _counted(topics: Mapping[str, Sequence[bytes]]) -> str:
    messages = sum(map(len, topics.values()))
    return f"{len(topics)} topics, {messages} messages"


def _template(topics: Sequence[str], *, plain: bool) -> str:
    """The topic filter of topics with the same number of levels; a level that differs gets a name."""
    columns = list(zip(*(topic.split("/") for topic in topics), strict=True))
    levels = []
    for place, column in enumerate(columns):
        last = place == len(columns) - 1
        if len(set(column)) == 1 and not _is_special(column[0]):
            levels.append(column[0])
        elif last and plain:
            levels.append("{metric}")
        else:
            levels.append(f"{{level{place + 1}}}")
    return "/".join(levels)


def _is_special(level: str) -> bool:
    return any(character in level for character in "{}+#")


def _escaped(topic: str) -> str:
    return "/".join(
        f"{{level{place}}}" if _is_special(level) else level
        for place, level in enumerate(topic.split("/"), 1)
    )
