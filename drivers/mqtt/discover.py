"""Listens at a broker, takes nothing away from anybody, and proposes sources for what it heard."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections import defaultdict
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from drivers.mqtt.proposal import propose
from drivers.transport.credentials import read_secret
from drivers.transport.mqtt import MqttConnection, options_from_url

if TYPE_CHECKING:
    from pathlib import Path

    from drivers.discovery import Finding

TOPICS_MAX: Final = 5000
PAYLOADS_MAX: Final = 5
"""A topic that are looked at; further messages are only counted out."""
PAYLOAD_BYTES_MAX: Final = 65536


class MqttScout:
    """Listens to all topics of one broker, with a session of its own that ends with it.

    Args:
        url: The broker's.
        username: Who logs in; None for the URL's user.
        password_file: Holds the password.

    Raises:
        ValueError: The URL is none of a broker, or has a password, which a proposal would show.
    """

    def __init__(self, url: str, username: str | None = None, password_file: Path | None = None) -> None:
        if urlsplit(url).password is not None:
            raise ValueError("keep the password out of the URL: name a file that holds it")
        options_from_url(url)
        self._url = url
        self._username = username
        self._password_file = password_file

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
        heard: dict[str, list[bytes]] = defaultdict(list)
        async with MqttConnection(options) as connection:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await connection.subscribe("#", 0)
                    async for message in connection.messages():
                        payloads = (
                            heard[message.topic] if len(heard) < TOPICS_MAX else heard.get(message.topic)
                        )
                        if (
                            payloads is not None
                            and len(payloads) < PAYLOADS_MAX
                            and len(message.payload) <= PAYLOAD_BYTES_MAX
                        ):
                            payloads.append(message.payload)
        found = {topic: payloads for topic, payloads in heard.items() if payloads}
        findings = await asyncio.to_thread(propose, self._url, found)
        for finding in findings:
            if finding.source is not None and self._username is not None:
                finding.source["username"] = self._username
            if finding.source is not None and self._password_file is not None:
                finding.source["password_file"] = str(self._password_file.absolute())
        return findings
