"""What an MQTT source needs to know. Importing this costs no aiomqtt."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from collectors.units import DurationS, WholeSeconds
from drivers.mqtt.topics import TopicTemplate, parse_template, parse_templates
from drivers.transport.credentials import ConfiguredFile, TlsFiles
from drivers.transport.mqtt_options import TLS_SCHEMES, MqttOptions, options_from_url
from drivers.transport.secret import Secret

WEEK_S = 7 * 86400
EXPIRY_MAX_S = 0xFFFFFFFE
"""MQTT 5 takes one more as 'never'."""


def _url(url: str) -> str:
    """The address of a broker, without a password.

    Raises:
        ValueError: It is none, or has a password.
    """
    if urlsplit(url).password is not None:
        raise ValueError('keep the password out of the URL, which is shown: password = { file = "..." }')
    options_from_url(url)
    return url


def _topic(text: str) -> str:
    """A topic filter, whose levels may have names.

    Raises:
        ValueError: It is none.
    """
    parse_template(text)
    return text


def _topics(texts: list[str]) -> list[str]:
    """Topic filters of which no two take the same messages.

    Raises:
        ValueError: Two do.
    """
    parse_templates(texts)
    return texts


def _qos(qos: Any) -> Any:
    """Anything but 2, which gets its reason.

    Raises:
        ValueError: It is 2.
    """
    if qos == 2:  # noqa: PLR2004 (exactly once, in MQTT's terms)
        raise ValueError(
            "QoS 2 loses messages when a connection drops at the wrong moment; use 1, second deliveries are recognised"
        )
    return qos


class MqttSourceConfig(BaseModel):
    """A broker, and what to subscribe to."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    preset: Literal["zigbee2mqtt", "tasmota", "esphome"] | None = None
    """A ready configuration for these, which fills in what is not given (`drivers.mqtt.presets`)."""
    url: Annotated[str, AfterValidator(_url)]
    """`mqtt://HOST:1883`, `mqtts://HOST:8883` for TLS, `ws://HOST:80/mqtt` or `wss://HOST:443/mqtt` for a WebSocket; a user name
    may stand before the host."""
    topics: Annotated[
        list[Annotated[str, AfterValidator(_topic)]], Field(min_length=1), AfterValidator(_topics)
    ]
    """Topic filters; a level may have a name: `sensors/{room}/{metric}` (`drivers.mqtt.topics`)."""
    client_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Names our session at the broker: it must stay the same, and no other client may use it. Unset, the agent makes one of
    the device's id and the source's."""
    protocol: Literal["5", "3.1.1"] = "5"
    """The version of MQTT."""
    qos: Annotated[Literal[0, 1], BeforeValidator(_qos)] = 1
    """1: the broker keeps each message until it is safe in the buffer. 0: what comes while we are away is lost."""
    retained: Literal["skip", "store"] = "skip"
    """What becomes of messages that the broker stored before we subscribed. Such a message is old by an unknown time, and comes
    again with every new session: no new reading. `store` keeps it, marked as uncertain."""
    session_expiry: Annotated[WholeSeconds, Field(le=EXPIRY_MAX_S)] = WEEK_S
    """How long the broker keeps messages for us while we are away (3.1.1: 0 is not at all, else for ever)."""
    receive_maximum: Annotated[int, Field(ge=1, le=65535)] = 1000
    """How many messages the broker may send ahead of our acknowledgements; it may have a lower limit of its own."""
    pending_max: Annotated[int, Field(ge=1, le=100_000)] = 1000
    """How many received messages may wait for the pipeline, 16 MiB of them at most; then the broker has to wait."""
    keepalive: Annotated[WholeSeconds, Field(ge=1, le=65535)] = 30
    """A dead link is noticed within twice this time."""
    connect_timeout: Annotated[DurationS, Field(le=300)] = 10.0
    """For name, TCP, TLS and the broker's answer together."""
    username: str | None = None
    """Who logs in, if the URL does not say it."""
    password: Secret | None = None
    """Where the password is; it is read at each connection."""
    ca_file: ConfiguredFile | None = None
    """PEM of the authorities to trust; unset, the system's."""
    cert_file: ConfiguredFile | None = None
    """PEM of this device's certificate, for mutual TLS."""
    key: Secret | None = None
    """Where its key is, as PEM; unset, it is in `cert_file`."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """What belongs together is together.

        Raises:
            ValueError: Something is missing or said twice.
        """
        user = urlsplit(self.url).username
        if user is not None and self.username is not None:
            raise ValueError("the user name is in `url` and in `username`: say it once")
        if self.password is not None and user is None and self.username is None:
            raise ValueError("`password` needs a `username`")
        if self.key is not None and self.cert_file is None:
            raise ValueError("`key` needs a `cert_file`")
        if (self.ca_file or self.cert_file) and not self._tls:
            raise ValueError("`ca_file` and `cert_file` need TLS: write the url with mqtts:// or wss://")
        return self

    @property
    def templates(self) -> tuple[TopicTemplate, ...]:
        """The topics, taken apart."""
        return parse_templates(self.topics)

    @property
    def user(self) -> str | None:
        """Who logs in."""
        found = urlsplit(self.url).username
        return self.username if found is None else unquote(found)

    @property
    def _tls(self) -> bool:
        return urlsplit(self.url).scheme in TLS_SCHEMES

    def options(self) -> MqttOptions:
        """As the transport takes it. Reads the password: blocks on the disk.

        Raises:
            SecretError: The password is not there, or cannot be read.
            ValueError: There is no client identifier.
        """
        if self.client_id is None:
            raise ValueError("an MQTT source needs a client_id that stays the same")
        return options_from_url(
            self.url,
            client_id=self.client_id,
            protocol=5 if self.protocol == "5" else 4,
            username=self.username,
            password=None if self.password is None else self.password.read(),
            tls=TlsFiles(self.ca_file, self.cert_file, self.key) if self._tls else None,
            keepalive_s=self.keepalive,
            clean_start=self.session_expiry == 0,
            session_expiry_s=self.session_expiry,
            receive_maximum=self.receive_maximum,
            connect_timeout_s=self.connect_timeout,
        )
