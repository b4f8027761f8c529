"""Which sources would collect what was heard at a broker. Pure: topics and payloads in, proposals out.

Topics of Zigbee2MQTT, Tasmota and ESPHome are known by their shape. The others are put together by what their payloads are, how
many levels they have and how they begin; a level that differs becomes a name.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from drivers.codecs import codec
from drivers.discovery import Finding
from drivers.mqtt.presets import PRESETS
from drivers.mqtt.topics import TopicTemplate, parse_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CODECS: Final = ("plain", "senml", "json")
"""In this order: the first that takes all payloads of a topic."""
_WILD: Final = ("+", "#")
OTHERS: Final = ("homeassistant/", "outstation/", "zigbee2mqtt/bridge/")
"""What these say is no measurement."""
TOPICS_MAX: Final = 20
"""Single topics that one proposal lists."""
SOURCES_MAX: Final = 50
"""Sources that are proposed for one broker: what says more than that is looked through by nobody."""


class _Taken:
    """Which topic filters are proposed already, by their first level: few of thousands can have to do with a new one."""

    def __init__(self) -> None:
        self._by_first: dict[str, list[TopicTemplate]] = defaultdict(list)

    def add(self, template: TopicTemplate) -> None:
        """A filter is proposed."""
        self._by_first[template.levels[0]].append(template)

    def overlaps(self, template: TopicTemplate) -> bool:
        """Whether one of them takes a message that this one takes, too."""
        first = template.levels[0]
        if first in _WILD:
            return any(map(template.overlaps, chain.from_iterable(self._by_first.values())))
        return any(
            template.overlaps(one) for level in (first, *_WILD) for one in self._by_first.get(level, ())
        )


def propose(url: str, heard: Mapping[str, Sequence[bytes]]) -> list[Finding]:
    """The proposals for a broker.

    Args:
        url: The broker's.
        heard: Payloads by topic.
    """
    left = {topic: payloads for topic, payloads in heard.items() if not topic.startswith(OTHERS)}
    findings: list[Finding] = []
    taken = _Taken()
    for preset, keys in PRESETS.items():
        templates = [parse_template(text) for text in keys["topics"]]
        mine = {
            topic: payloads
            for topic, payloads in left.items()
            if any(template.match(topic) is not None for template in templates)
            and _codec_of(payloads) == _codec_of_preset(preset)
        }
        if mine:
            for template in templates:
                taken.add(template)
            left = {topic: payloads for topic, payloads in left.items() if topic not in mine}
            source = {"id": preset, "driver": "mqtt", "url": url, "preset": preset}
            findings.append(Finding(f"{preset}: {_counted(mine)}", source))
    silent: list[str] = []
    groups = _groups(left, silent)
    alike: dict[str, list[str]] = defaultdict(list)
    for topic in heard:
        alike[topic.partition("/")[0]].append(topic)
    for name, topics in islice(groups.items(), SOURCES_MAX):
        _, first, _ = name
        nearby = heard if _is_special(first) else alike[first]  # such a level becomes a name, which takes all
        others = [topic for topic in nearby if topic not in topics]
        findings.append(_finding(url, name, topics, others, taken, len(findings)))
    if len(groups) > SOURCES_MAX:
        left_out = sum(map(len, islice(groups.values(), SOURCES_MAX, None)))
        findings.append(
            Finding(
                f"{left_out} further topics are left out: they begin in too many ways to propose sources for all"
            )
        )
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
    taken: _Taken,
    number: int,
) -> Finding:
    codec_name, first, _ = name
    text = _template(list(topics), plain=codec_name == "plain")
    template = parse_template(text)
    notes = []
    texts = [text]
    if taken.overlaps(template) or any(template.match(topic) is not None for topic in others):
        # Two sources would keep the same messages twice, or one would get what is none of its own.
        texts = _listed(topics, taken)
        notes.append("its topics are listed one by one, since others of the same shape say something else")
        if len(topics) > len(texts):
            notes.append(f"{len(topics) - len(texts)} of its topics are left out")
    else:
        taken.add(template)
    if not texts:
        return Finding(f"{_counted(topics)} {codec_name} below {first}, of topics that are collected already")
    source: dict[str, Any] = {
        "id": f"mqtt-{number + 1}",
        "driver": "mqtt",
        "url": url,
        "topics": texts,
        "codec": codec_name,
    }
    return Finding(f"{_counted(topics)} {codec_name} below {first}", source, notes)


def _listed(topics: Iterable[str], taken: _Taken) -> list[str]:
    """The topics one by one, without those that are taken, and not more than somebody would look through."""
    texts: list[str] = []
    for topic in topics:
        single = parse_template(_escaped(topic))
        if len(texts) < TOPICS_MAX and not taken.overlaps(single):
            taken.add(single)
            texts.append(single.text)
    return texts


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
