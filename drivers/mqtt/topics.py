"""Topic filters whose levels may have names: `sensors/{room}/{metric}`. Pure.

A name in braces stands for one level, as `+` does, and makes a tag of what the level is: a message to
`sensors/kitchen/temperature` gets `room = "kitchen"`. The name `metric` is no tag: it names the value of a payload that
does not name it itself, such as a plain number. A filter may be a shared subscription's, `$share/GROUP/FILTER`
(MQTT 5, section 4.8.2): the broker deals its messages out among all that subscribe with the same group.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

FILTER_BYTES_MAX: Final = 65535
METRIC: Final = "metric"
"""The level that names a value."""
TOPIC: Final = "topic"
"""The tag that holds the whole topic."""
_SHARE: Final = "$share/"
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_EXAMPLE: Final = "such as sensors/{room}/temperature"


class TopicError(ValueError):
    """A topic filter that is none, or filters that do not go together."""


@dataclass(frozen=True, slots=True)
class TopicTemplate:
    """One topic filter with its names."""

    text: str
    """As it was written."""
    filter: str
    """As the broker takes it: `+` for each name, the group of a shared subscription before it."""
    levels: tuple[str, ...] = field(repr=False)
    """Level by level: a text, `+` or `#`; without the group."""
    names: tuple[str | None, ...] = field(repr=False)
    """The name of each level, None for those without."""

    @property
    def shared(self) -> bool:
        """Whether it is a shared subscription's."""
        return self.filter.startswith(_SHARE)

    def match(self, topic: str) -> dict[str, str] | None:
        """What the named levels of a topic are; None when it does not belong to this filter."""
        parts = topic.split("/")
        levels = self.levels
        if levels[-1] == "#":
            if len(parts) < len(levels) - 1:  # sensors/# takes sensors, too (4.7.1.2)
                return None
        elif len(parts) != len(levels):
            return None
        if topic.startswith("$") and levels[0] in {"+", "#"}:
            return None  # a wildcard does not take the broker's own topics (4.7.2)
        found: dict[str, str] = {}
        for level, name, part in zip(levels, self.names, parts, strict=False):
            if level == "#":
                break
            if level not in {"+", part}:
                return None
            if name is not None:
                found[name] = part
        return found

    def overlaps(self, other: TopicTemplate) -> bool:
        """Whether some topic belongs to both."""
        ours, theirs = self.levels, other.levels
        for place in range(max(len(ours), len(theirs)) + 1):
            mine = ours[place] if place < len(ours) else ""
            its = theirs[place] if place < len(theirs) else ""
            if "#" in {mine, its}:
                if place == min(len(ours), len(theirs)) == 1 and "" in {ours[0], theirs[0]}:
                    return False  # `+` and `/#` share the topic without a character, and that is none
                # `$SYS` and its like are the only first levels that a wildcard does not take.
                return place > 0 or not (mine.startswith("$") or its.startswith("$"))
            if place >= len(ours) or place >= len(theirs):
                return len(ours) == len(theirs)
            if mine != its and "+" not in {mine, its}:
                return False
            if place == 0 and mine != its and (mine.startswith("$") or its.startswith("$")):
                return False
        raise AssertionError("both ended without a decision")


def parse_template(text: str) -> TopicTemplate:
    """The template that a text says.

    Raises:
        TopicError: It says none; the message says what is wrong and what would be right.
    """
    if not text or "\0" in text or len(text.encode(errors="replace")) > FILTER_BYTES_MAX:
        raise TopicError("a topic has 1 to 65535 bytes and no NUL")
    group, rest = _split_group(text)
    levels: list[str] = []
    names: list[str | None] = []
    written = rest.split("/")
    for place, level in enumerate(written):
        name = _name_of(level, text)
        if name is not None and name in names:
            raise TopicError(f"{text!r}: two levels are named {name!r}; give each a name of its own")
        if "#" in level and (level != "#" or place < len(written) - 1):
            raise TopicError(f"{text!r}: `#` must be the whole last level, such as sensors/#")
        if "+" in level and level != "+":
            raise TopicError(f"{text!r}: `+` must be a whole level, such as sensors/+/temperature")
        levels.append("+" if name is not None else level)
        names.append(name)
    return TopicTemplate(text, group + "/".join(levels), tuple(levels), tuple(names))


def parse_templates(texts: Sequence[str]) -> tuple[TopicTemplate, ...]:
    """The templates of one subscription, in their order.

    Raises:
        TopicError: One says none, or two take the same messages: the broker may deliver such a message once for each (MQTT 5,
            section 3.3.4), and each copy would be a reading.
    """
    templates = tuple(map(parse_template, texts))
    for one, other in combinations(templates, 2):
        if one.overlaps(other):
            raise TopicError(
                f"{one.text!r} and {other.text!r} take the same messages, which would be kept twice; leave one out,"
                " or make them two sources"
            )
    return templates


def _split_group(text: str) -> tuple[str, str]:
    if not text.startswith(_SHARE):
        return "", text
    _, group, rest = [*text.split("/", 2), "", ""][:3]
    if not group or not rest or "+" in group or "#" in group:
        raise TopicError(
            f"{text!r}: a shared subscription is $share/GROUP/TOPIC, such as $share/pis/sensors/#"
        )
    return f"{_SHARE}{group}/", rest


def _name_of(level: str, text: str) -> str | None:
    """The name in braces that a level is, if it is one."""
    if "{" not in level and "}" not in level:
        return None
    name = level[1:-1]
    if not (level.startswith("{") and level.endswith("}") and _NAME.fullmatch(name)):
        raise TopicError(
            f"{text!r}: a name is a whole level in braces, of letters, digits and `_`, {_EXAMPLE}"
        )
    if name == TOPIC:
        raise TopicError(f"{text!r}: the tag `topic` is the whole topic; give the level another name")
    return name
