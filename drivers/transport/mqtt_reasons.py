"""What a broker's reason code means, in words that say what to do. Pure.

The codes are MQTT 5's (section 2.4); those of 3.1.1's CONNACK are translated to them before, and its SUBACK knows 0x80 only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

SERVER_TEXT_MAX: Final = 200
"""Characters of what the broker itself says that a message shows."""

WORDS: Final[Mapping[int, str]] = {
    0x80: "it does not say why; most often its rules (ACL) do not allow it",
    0x81: "it could not read our packet",
    0x82: "it says that we broke the protocol",
    0x83: "for a reason of its own",
    0x84: "it does not speak this version of MQTT: set `protocol` to the other one",
    0x85: "it does not take the client id {client_id}: set another `client_id`",
    0x86: "user name or password is wrong",
    0x87: "not authorised: its rules (ACL) do not allow it to this user",
    0x88: "it is not available now",
    0x89: "it is busy",
    0x8A: "this client is banned",
    0x8B: "it is shutting down",
    0x8C: "it does not take this way to log in",
    0x8D: "it heard nothing from us for longer than `keepalive`",
    0x8E: "another client connected with our client id {client_id}: give each client a `client_id` of its own",
    0x8F: "it does not take this topic filter",
    0x90: "it does not take this topic",
    0x93: "more was sent at once than it takes",
    0x95: "the packet is larger than it takes",
    0x96: "messages are sent faster than it allows",
    0x97: "a quota is used up",
    0x98: "its administrator ended it",
    0x99: "the payload is not what its content type says",
    0x9A: "it keeps no retained messages",
    0x9B: "it does not take this QoS",
    0x9C: "it asks us to use another server for now",
    0x9D: "it has moved to another server: change `url`",
    0x9E: "it knows no shared subscriptions: write the topic without $share/GROUP/",
    0x9F: "too many connections in a short time",
    0xA0: "the connection has lasted as long as it allows",
    0xA1: "it knows no subscription identifiers",
    0xA2: "it takes no wildcards: name each topic",
}


def in_words(code: int, *, client_id: str = "", said: str = "") -> str:
    """Why, and what would be right: `user name or password is wrong (0x86)`.

    Args:
        code: The reason code, 0x80 and above; others (a normal disconnection) are told as such.
        client_id: Ours, for what concerns it.
        said: What the broker itself says: its Reason String or Server Reference.
    """
    words = WORDS.get(code, "it does not say why").format(client_id=repr(client_id))
    text = " ".join(said.split())
    if len(text) > SERVER_TEXT_MAX:
        text = text[: SERVER_TEXT_MAX - 1] + "…"
    return f"{words} (0x{code:02x})" if not text else f"{words} (0x{code:02x}, in its words: {text!r})"
