"""Listens at a broker, takes nothing away from anybody, and proposes sources for what it heard."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from drivers.discovery import Finding
from drivers.mqtt.proposal import propose
from drivers.transport.credentials import read_secret
from drivers.transport.mqtt import MqttConnection, MqttConnectionLost, options_from_url

if TYPE_CHECKING:
    from pathlib import Path

TOPICS_MAX: Final = 5000
PAYLOADS_MAX: Final = 5
"""A topic that are looked at; further messages are only counted out."""
PAYLOAD_BYTES_MAX: Final = 65536
HEARD_BYTES_MAX: Final = 16 << 20
"""Of all payloads together: a broker may keep pictures, and this machine may be a small one."""


class Heard:
    """What was heard, within bounds.

    Attributes:
        topics: The first payloads of each topic.
    """

    def __init__(self) -> None:
        self.topics: dict[str, list[bytes]] = {}
        self._bytes = 0

    def hear(self, topic: str, payload: bytes) -> None:
        """Keep it, if there is room for it."""
        payloads = self.topics.get(topic, [])
        if (
            (payloads or len(self.topics) < TOPICS_MAX)
            and len(payloads) < PAYLOADS_MAX
            and len(payload) <= PAYLOAD_BYTES_MAX
            and self._bytes + len(payload) <= HEARD_BYTES_MAX
        ):
            self.topics[topic] = [*payloads, payload]
            self._bytes += len(payload)


class MqttScout:
    """Listens to all topics of one broker, with a session of its own that ends with it.

    Args:
        url: The broker's.
        username: Who logs in; None for the URL's user.
        password_file: Holds the password.

    Raises:
        ValueError: The URL is none of a broker, has a password, which a proposal would show, or a user beside `username`.
    """

    def __init__(self, url: str, username: str | None = None, password_file: Path | None = None) -> None:
        if urlsplit(url).password is not None:
            raise ValueError("keep the password out of the URL: name a file that holds it")
        if username is not None and urlsplit(url).username is not None:
            raise ValueError(f"{url} names a user, and so does the user name beside it: say it once")
        options_from_url(url)
        self._url = url
        self._username = username
        self._password_file = password_file
        self._listening: asyncio.Timeout | None = None

    @property
    def place(self) -> str:
        """The broker."""
        return self._url

    async def look(self, seconds: float) -> list[Finding]:
        """Listen for so long.

        Raises:
            ConnectionError: The broker cannot be reached, or refuses.
        """
        password = await asyncio.to_thread(read_secret, self._password_file)
        options = options_from_url(
            self._url,
            client_id=f"outstation-discover-{secrets.token_hex(4)}",
            username=self._username,
            password=password,
        )
        heard, loss = Heard(), None
        async with MqttConnection(options) as connection:
            try:
                async with asyncio.timeout(seconds) as self._listening:
                    await connection.subscribe("#", 0)
                    async for message in connection.messages():
                        heard.hear(message.topic, message.payload)
            except TimeoutError:
                pass  # as long as it was to be
            except MqttConnectionLost as error:
                loss = error
            finally:
                self._listening = None
        if not heard.topics:
            if loss is not None:
                raise loss
            reader = options.username or "an anonymous client"
            nothing = f"{self._url}: nothing was heard: does anything publish, and do its rules (ACL) let {reader} read it?"
            return [Finding(nothing)]
        findings = await asyncio.to_thread(propose, self._url, heard.topics)
        if loss is not None:
            findings.append(Finding(f"{self._url}: {loss}: it was not listened to for the whole time"))
        for finding in findings:
            if finding.source is not None and self._username is not None:
                finding.source["username"] = self._username
            if finding.source is not None and self._password_file is not None:
                finding.source["password"] = {"file": str(self._password_file.absolute())}
        return findings

    def enough(self) -> None:
        """Listen no longer."""
        if self._listening is not None and not self._listening.expired():
            self._listening.reschedule(asyncio.get_running_loop().time())
