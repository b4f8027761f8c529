"""What `[[upstream]]` says beyond `name` and `driver`, driver by driver.

Credentials are named by where they are (`drivers.transport.secret`), are read at each connection (so that a rotated
one is used), and never appear in messages.
"""

from __future__ import annotations

from importlib.util import find_spec
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from agent.spine.backoff import BackoffPolicy
from agent.sync.feeder import SendOptions
from agent.sync.formats import FormatName
from agent.sync.limits import Limit, most_of, parse_limit
from agent.sync.presets import PresetName, alpn, fault, with_preset
from agent.sync.routes import Route
from agent.sync.schedule import SchedulePolicy
from collectors.enums import Lane
from collectors.units import Duration, DurationS, SizeBytes, WholeSeconds
from drivers.transport.credentials import ConfiguredFile, TlsFiles
from drivers.transport.mqtt_options import options_from_url, port_of
from drivers.transport.secret import Secret

Wait = Annotated[float, Duration, Field(ge=0, le=86400, allow_inf_nan=False)]
"""A time in seconds that may be zero, at most a day."""


def _is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ip_address(host or "").is_loopback
    except ValueError:
        return False


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class RetryConfig(_Section):
    """`[upstream.retry]`: back-off. The defaults let 10,000 devices come back without a stampede."""

    first: Wait = 60.0
    """The first retry after an established connection was lost comes at chance within this time."""
    base: DurationS = 1.0
    """The first retry after a failed attempt; doubled at each further one."""
    cap: DurationS = 300.0
    """No retry is later than this, unless the server asks for it."""
    stable: Wait = 60.0
    """A connection that held for so long starts the sequence anew."""

    @model_validator(mode="after")
    def _base_below_cap(self) -> RetryConfig:
        if self.base > self.cap:
            raise ValueError("`base` must not exceed `cap`")
        return self

    def policy(self) -> BackoffPolicy:
        """As the back-off takes it."""
        return BackoffPolicy(self.first, self.base, self.cap, self.stable, fleet=True)


class BacklogConfig(_Section):
    """`[upstream.backlog]`: what was stored while there was no link, beside what is measured now."""

    share: Annotated[float, Field(gt=0, le=1)] = 0.25
    """The part of the link that it has while live readings flow."""
    share_min: Annotated[float, Field(gt=0, le=1)] = 0.05
    """What is left to it in any case."""

    @model_validator(mode="after")
    def _least_below_usual(self) -> BacklogConfig:
        if self.share_min > self.share:
            raise ValueError("`share_min` must not exceed `share`")
        return self


def _limit(value: Any) -> Any:
    return parse_limit(value) if isinstance(value, str) else value


LimitText = Annotated[
    Limit, BeforeValidator(_limit), WithJsonSchema({"type": "string", "examples": ["8 messages/s"]})
]
"""A limit, written as a text."""


class UpstreamOptions(_Section):
    """What every upstream has."""

    driver_name: ClassVar[str] = ""

    url: str
    """Where it is."""
    preset: PresetName | None = None
    """A cloud whose limits and habits are known (`agent.sync.presets`); every other key wins over it."""
    format: FormatName = "senml"
    """How readings are written: SenML JSON, InfluxDB's line protocol, or ThingsBoard telemetry."""
    tls: bool | None = None
    """False allows readings and credentials to cross a network unencrypted."""
    username: str | None = None
    """Who logs in."""
    password: Secret | None = None
    """Where the password is; it is read at each connection."""
    ca_file: ConfiguredFile | None = None
    """PEM of the authorities to trust; unset, the system's."""
    cert_file: ConfiguredFile | None = None
    """PEM of this device's certificate, for mutual TLS."""
    key: Secret | None = None
    """Where its key is, as PEM; unset, it is in `cert_file`."""
    linger: Wait = 1.0
    """How long readings gather before a batch that is not full is sent."""
    batch_readings: Annotated[int, Field(ge=1, le=10_000)] = 1000
    """The most readings in a batch."""
    batch_size: SizeBytes = 48 * 1024
    """Bytes of stored readings in a batch."""
    message_size: Annotated[SizeBytes, Field(ge=1024)] = 48 * 1024
    """The largest message that the other end takes. A batch that makes a larger one is cut."""
    gzip: bool = True
    """Compress packs of ten readings and more."""
    ledger: bool | None = None
    """Tell the other end of losses; unset, when it is `outstation receive`: with `ack = "receiver"`."""
    connect_interval: Wait = 0.0
    """At most one attempt to connect in this time."""
    limits: tuple[LimitText, ...] = ()
    """What the other end takes in a time: `8 messages/s`, `512 KB/s`, `1000 points/min` (points are values)."""
    sources: Annotated[list[str], Field(min_length=1)] | None = None
    """Only readings of these sources go there."""
    lanes: Annotated[list[Lane], Field(min_length=1)] | None = None
    """Only readings of these lanes, `alarm` or `normal`."""
    tags: Annotated[dict[str, str], Field(min_length=1)] | None = None
    """Only readings that have all of these tags."""
    backlog: BacklogConfig = BacklogConfig()
    """How much of the link the backlog has."""
    retry: RetryConfig = RetryConfig()
    """When a lost connection is tried again."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, options: Any) -> Any:
        return with_preset(cls.driver_name, options) if isinstance(options, dict) else options

    @model_validator(mode="after")
    def _read_by_the_receiver(self) -> UpstreamOptions:
        if getattr(self, "ack", "") == "receiver" and self.format != "senml":
            raise ValueError('`ack = "receiver"` is for `outstation receive`, which reads `format = "senml"`')
        return self

    @model_validator(mode="after")
    def _message_within_limits(self) -> UpstreamOptions:
        most = most_of("bytes", self.limits)
        if most is not None and most < self.message_size:
            raise ValueError(
                f"a message of `message_size` ({self.message_size} bytes) never fits a limit of {most} bytes:"
                " make `message_size` smaller"
            )
        return self

    @model_validator(mode="after")
    def _whole(self) -> UpstreamOptions:
        if self.password is not None and self.username is None:
            raise ValueError("`password` needs a `username`")
        if self.key is not None and self.cert_file is None:
            raise ValueError("`key` needs a `cert_file`")
        if self.tls_files and not self.secure:
            raise ValueError(f"`ca_file` and `cert_file` need TLS: write the url with {self.secure_schemes}")
        return self

    @model_validator(mode="after")
    def _as_the_cloud_needs(self) -> UpstreamOptions:
        if (wrong := fault(self)) is not None:
            raise ValueError(wrong)
        return self

    @model_validator(mode="after")
    def _encrypted(self) -> UpstreamOptions:
        if self.tls and not self.secure:
            raise ValueError(f"`tls` needs a url with TLS: write it with {self.secure_schemes}")
        if self.plain_over_network and self.tls is None:
            raise ValueError(
                f"would send readings and credentials unencrypted over a network: write the url with {self.secure_schemes},"
                " or say `tls = false` where that network is safe"
            )
        return self

    @property
    def tls_files(self) -> bool:
        """Whether there is anything to set up for TLS."""
        return self.ca_file is not None or self.cert_file is not None

    @property
    def secure(self) -> bool:
        """Whether the connection is by TLS."""
        return urlsplit(self.url).scheme in {"mqtts", "wss", "https", "tls"}

    @property
    def secure_schemes(self) -> str:
        """What a url with TLS begins with."""
        return {"mqtt": "mqtts:// or wss://", "nats": "tls://"}.get(self.driver_name, "https://")

    @property
    def plain_over_network(self) -> bool:
        """Whether readings and credentials leave the device unencrypted."""
        return not self.secure and any(not _is_loopback(urlsplit(url).hostname) for url in self.servers())

    def servers(self) -> list[str]:
        """The url of each server."""
        return [self.url]

    def send_options(self) -> SendOptions:
        """How the sender gathers batches."""
        return SendOptions(self.batch_readings, self.batch_size, self.linger)

    def policy(self) -> SchedulePolicy:
        """How lanes share the link, and what the other end takes."""
        return SchedulePolicy(self.backlog.share, self.backlog.share_min, self.limits)

    def route(self) -> Route | None:
        """What goes there; None for everything."""
        if self.sources is None and self.lanes is None and self.tags is None:
            return None
        return Route(
            None if self.sources is None else frozenset(self.sources),
            None if self.lanes is None else frozenset(lane.value for lane in self.lanes),
            self.tags,
        )

    @property
    def tells_losses(self) -> bool:
        """Whether the other end is told of losses: by default only one that understands it."""
        return getattr(self, "ack", "") == "receiver" if self.ledger is None else self.ledger

    def certificates(self) -> TlsFiles:
        """Where certificates are."""
        return TlsFiles(self.ca_file, self.cert_file, self.key, alpn(self))


class MqttUpstreamOptions(UpstreamOptions):
    """`driver = "mqtt"`."""

    driver_name = "mqtt"

    ack: Literal["receiver", "broker"] = "receiver"
    """Whose acknowledgement ends our responsibility. A broker's is not a durable one, so `receiver` waits
    until `outstation receive` has committed; without one at the other end, say `broker`."""
    protocol: Literal["5", "3.1.1"] = "5"
    """The version of MQTT."""
    client_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Unset, `outstation-` and the device's id."""
    keepalive: Annotated[WholeSeconds, Field(ge=1, le=65535)] = 30
    """A dead link is noticed within twice this time."""
    in_flight: Annotated[int, Field(ge=1, le=100)] = 20
    """Packs sent and not yet acknowledged."""
    ack_timeout: DurationS = 30.0
    """A pack that is not acknowledged within this time is sent again."""
    topic: Annotated[str, Field(min_length=1)] | None = None
    """Where packs go; `{device}` stands for the device's id. Unset, `outstation/{device}/readings`."""
    token: Secret | None = None
    """Sent as the user name: an access token as ThingsBoard has them."""

    @model_validator(mode="after")
    def _one_credential(self) -> MqttUpstreamOptions:
        if self.token is not None and self.username is not None:
            raise ValueError("give `token`, or `username` and `password`, not both")
        return self

    @field_validator("topic")
    @classmethod
    def _a_topic(cls, topic: str | None) -> str | None:
        if topic is not None and ({"+", "#", "\0"} & set(topic) or "{" in topic.replace("{device}", "")):
            raise ValueError("is no topic to publish to; of placeholders there is {device}")
        return topic

    @field_validator("url")
    @classmethod
    def _mqtt_url(cls, url: str) -> str:
        if urlsplit(url).password is not None:
            raise ValueError('keep the password out of the URL, which is shown: password = { file = "..." }')
        options_from_url(url)
        return url


class HttpUpstreamOptions(UpstreamOptions):
    """`driver = "http"`."""

    driver_name = "http"

    ack: Literal["server", "receiver"] = "server"
    """`server`: any 2xx acknowledges. `receiver`: only an answer that names the pack does, which
    `outstation receive` gives and no proxy or captive portal does."""
    token: Secret | None = None
    """Sent as `Authorization: Bearer`; to InfluxDB as `Token`, to ThingsBoard within the path."""
    org: str | None = None
    """InfluxDB's organisation."""
    bucket: str | None = None
    """InfluxDB's bucket."""
    timeout: DurationS = 30.0
    """For one request and its answer."""

    @field_validator("url")
    @classmethod
    def _http_url(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or " " in url:
            raise ValueError("should be like https://host/readings")
        port_of(parts)
        if parts.username is not None or parts.password is not None:
            raise ValueError(
                "keep credentials out of the URL, which is shown: use `token`, or `username` and `password`"
            )
        return url

    @model_validator(mode="after")
    def _installed(self) -> HttpUpstreamOptions:
        if find_spec("aiohttp") is None:
            raise ValueError('the HTTP upstream needs aiohttp: pip install "outstation[http]"')
        return self

    @model_validator(mode="after")
    def _one_credential(self) -> HttpUpstreamOptions:
        if self.token is not None and self.username is not None:
            raise ValueError("give `token`, or `username` and `password`, not both")
        return self


class NatsUpstreamOptions(UpstreamOptions):
    """`driver = "nats"`."""

    driver_name = "nats"

    ack: Literal["receiver", "broker"] = "receiver"
    """As for MQTT. The stream's acknowledgement is durable where its servers sync each write (`sync_interval: always`)."""
    token: Secret | None = None
    """A token that the server knows."""
    in_flight: Annotated[int, Field(ge=1, le=256)] = 64
    """Packs sent and not yet acknowledged."""
    ack_timeout: DurationS = 30.0
    """A pack that is not acknowledged within this time is sent again."""

    @field_validator("url")
    @classmethod
    def _nats_url(cls, url: str) -> str:
        scheme, found, rest = url.partition("://")
        if not found or scheme not in {"nats", "tls"} or not rest or " " in url:
            raise ValueError("should be like nats://host:4222, tls://host, or nats://one:4222,two:4222")
        if "@" in url:
            raise ValueError(
                "keep credentials out of the URL, which is shown: use `token`, or `username` and `password`"
            )
        for server in rest.split(","):
            if not urlsplit(f"nats://{server}").hostname:
                raise ValueError(f"names a server without a host: {server!r}")
            port_of(urlsplit(f"nats://{server}"))
        return url

    @model_validator(mode="after")
    def _installed(self) -> NatsUpstreamOptions:
        if find_spec("nats") is None:
            raise ValueError('the NATS upstream needs nats-py: pip install "outstation[nats]"')
        if self.token is not None and self.username is not None:
            raise ValueError("give `token`, or `username` and `password`, not both")
        return self

    def servers(self) -> list[str]:
        """The url of each server of the cluster."""
        scheme, _, rest = self.url.partition("://")
        return [f"{scheme}://{server}" for server in rest.split(",")]
