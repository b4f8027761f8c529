"""Readings over NATS JetStream: a durable pull consumer, acknowledged only after the database commit (see `agent.receiver.intake`).

The stream `OUTSTATION` holds what no receiver has committed yet (retention `workqueue`); when it is full it refuses what is new,
and forgets nothing. It is made when it is not there.

Two ways to take from it:

- Alone, in order: the consumer is made anew at each connection, so that what was not acknowledged comes again first. Its
  messages are numbered; one that is missing (lost on the way from a server that died) ends the connection.
- Shared by all receivers that say the same name: what one of them has and does not acknowledge goes to another after
  `ACK_WAIT_S`, later than what followed it.

While a message waits for the database, the server is told so, and does not give it to another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
from nats.js.errors import NotFoundError
from pydantic_core import to_json

from agent.receiver.committer import Inflow
from agent.receiver.intake import Underway, acknowledgements, durable, taken_in
from agent.spine.backoff import Backoff, BackoffPolicy
from agent.spine.errors import describe
from agent.sync.nats_client import close, heeding, undisturbed
from agent.sync.subjects import BATCH_FILTER, LEDGER_FILTER, STREAM, ack_subject, device_of_subject

if TYPE_CHECKING:
    import random
    import ssl
    from collections.abc import Callable, Sequence

    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

    from agent.receiver.committer import Committer
    from collectors.clock import Clock

_log = logging.getLogger(__name__)

RETRY = BackoffPolicy(first_s=1.0, base_s=0.5, cap_s=5.0, stable_s=10.0)
"""One receiver harms nobody by coming back soon, and a fleet waits for it."""
ACK_WAIT_S = 30.0
"""After so long without a word from its receiver, a message goes to another."""
BATCH = 64
"""Messages that are asked for at once, each at most 1 MiB by NATS' default."""
DUPLICATE_WINDOW_S = 120.0
"""In which the stream recognises what it has been sent before; the database does so for ever."""
_EXPIRES_S = 30.0
_HEARTBEAT_S = 5.0
"""How often the server says that there is nothing; after three silent times the connection is taken for dead."""
_ANSWER_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 2.0
_PING_S = 10
_PAUSE_S = 0.2
"""Between requests while the consumer's leader changes."""
_GROUP_MAX = 64
"""Packs that are acknowledged together."""
_DURABLE_NAME = re.compile(r"[A-Za-z0-9_-]+")


class NatsLost(ConnectionError):
    """The connection or the consumer is no longer what it was; a new one mends it."""


@dataclass(frozen=True, slots=True)
class NatsOptions:
    """Which servers, and how to take from them."""

    servers: tuple[str, ...]
    """Each as `nats://host:port` or `tls://host:port`; they are tried in turn."""
    consumer: str
    """The name of the durable consumer."""
    shared: bool = False
    """Whether other receivers take from the same consumer."""
    replicas: int = 1
    """Of the stream, when it has to be made."""
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        if not _DURABLE_NAME.fullmatch(self.consumer):
            raise ValueError(
                f"{self.consumer!r} cannot name a consumer of NATS: letters, digits, - and _ only"
            )
        if self.replicas not in {1, 3, 5}:
            raise ValueError(f"a stream has 1, 3 or 5 replicas, not {self.replicas}")

    @property
    def address(self) -> str:
        """All servers, for messages; holds no secret."""
        return ",".join(self.servers)


class NatsReceiver:
    """Takes packs from one NATS cluster.

    Args:
        options: Which one, and how.
        committer: Takes the packs.
        clock: Measures the back-off.
        rng: Chance for the back-off, and which server is tried first.
    """

    def __init__(self, options: NatsOptions, committer: Committer, clock: Clock, rng: random.Random) -> None:
        self._options = options
        self._committer = committer
        self._clock = clock
        self._backoff = Backoff(RETRY, rng)
        self._turn = rng.randrange(len(options.servers))
        self._failing = False

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Receive until cancelled; connects again whenever the connection is lost.

        Args:
            ready: Called each time that the consumer stands.
        """
        while True:
            try:
                await self._session(ready)
            except* (NatsError, OSError) as errors:
                if not self._failing:
                    _log.warning("receive: %s: %s", self._options.address, describe(errors))
                self._failing = True
            await asyncio.sleep(self._backoff.delay_s(self._clock.monotonic_s()))

    async def _session(self, ready: Callable[[], None]) -> None:
        """One connection to one server; never returns, but raises what ended it."""
        ended = asyncio.Event()
        connection = Client()
        try:
            await undisturbed(self._connect(connection, ended), _ANSWER_TIMEOUT_S)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._receive(connection, ready), name="receive-nats")
                await ended.wait()
                raise NatsLost("the connection was lost")
        finally:
            await close(connection, _CLOSE_TIMEOUT_S)

    async def _receive(self, connection: Client, ready: Callable[[], None]) -> None:
        consumer = _Consumer(connection, self._options, self._committer)
        await undisturbed(consumer.open(), 5 * _ANSWER_TIMEOUT_S)
        self._backoff.established(self._clock.monotonic_s())
        _log.info("receive: connected to %s", self._options.address)
        self._failing = False
        ready()
        async with asyncio.TaskGroup() as group:
            group.create_task(consumer.take(), name="receive-take")
            group.create_task(consumer.acknowledge(), name="receive-acknowledge")
            group.create_task(consumer.keep(), name="receive-keep")

    async def _connect(self, connection: Client, ended: asyncio.Event) -> None:
        async def closed() -> None:
            ended.set()

        async def error_told(error: Exception) -> None:
            if isinstance(error, NatsError | OSError):
                _log.debug("receive: %s: %s", self._options.address, describe(error))
            else:  # of our own callbacks: a bug, which nats-py would keep to itself
                _log.error("receive: %s", describe(error), exc_info=error)

        options = self._options
        self._turn = (self._turn + 1) % len(options.servers)
        given: dict[str, Any] = {}
        if options.username is not None:
            given |= {"user": options.username, "password": options.password or ""}
        if options.tls is not None:
            given["tls"] = options.tls
        await connection.connect(
            options.servers[self._turn],
            name="outstation-receive",
            # Each connection begins anew: what was under way on the old one is not to be trusted.
            allow_reconnect=False,
            connect_timeout=int(_ANSWER_TIMEOUT_S),
            ping_interval=_PING_S,
            closed_cb=closed,
            disconnected_cb=closed,
            error_cb=error_told,
            **given,
        )


class _Consumer:
    """A durable consumer over one connection."""

    def __init__(self, connection: Client, options: NatsOptions, committer: Committer) -> None:
        self._connection = connection
        self._options = options
        self._committer = committer
        self._inflow = Inflow(committer)
        self._jetstream: JetStreamContext = connection.jetstream(timeout=_ANSWER_TIMEOUT_S)
        self._inbox = connection.new_inbox()
        self._arrived: asyncio.Queue[Msg] = asyncio.Queue()  # bounded by what was asked for
        self._underway: asyncio.Queue[Underway[Msg]] = asyncio.Queue(BATCH)
        self._in_hand: dict[str, Msg] = {}
        """By where to acknowledge them."""
        self._number = 0

    async def open(self) -> None:
        """Make the stream, unless it is there, and the consumer."""
        options, jetstream = self._options, self._jetstream
        try:
            await jetstream.stream_info(STREAM)
        except NotFoundError:
            await jetstream.add_stream(
                StreamConfig(
                    name=STREAM,
                    subjects=[BATCH_FILTER, LEDGER_FILTER],
                    retention=RetentionPolicy.WORK_QUEUE,
                    discard=DiscardPolicy.NEW,
                    storage=StorageType.FILE,
                    num_replicas=options.replicas,
                    duplicate_window=DUPLICATE_WINDOW_S,
                )
            )
        if not options.shared:
            with contextlib.suppress(NotFoundError):  # at the first connection of all
                await jetstream.delete_consumer(STREAM, options.consumer)
        await jetstream.add_consumer(
            STREAM,
            ConsumerConfig(
                durable_name=options.consumer,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_ack_pending=16 * BATCH,
            ),
        )
        await self._connection.subscribe(self._inbox, cb=self._on_message)

    async def _on_message(self, message: Msg) -> None:
        if message.reply:
            self._in_hand[message.reply] = message
        self._arrived.put_nowait(message)

    async def take(self) -> None:
        """Ask for messages and take them in, for ever.

        Raises:
            NatsLost: The server is silent, or the consumer is not what it was.
        """
        while True:
            await self._ask()
            left = BATCH
            while left:
                message = await self._next()
                if message.reply:
                    left -= 1
                    await self._take_in(message)
                elif await self._request_is_over(message):
                    break

    async def _ask(self) -> None:
        request = {
            "batch": BATCH,
            "expires": int(_EXPIRES_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{self._options.consumer}"
        await heeding(self._connection.publish(subject, to_json(request), reply=self._inbox))

    async def _next(self) -> Msg:
        try:
            async with asyncio.timeout(3 * _HEARTBEAT_S):
                return await self._arrived.get()
        except TimeoutError:
            raise NatsLost(f"silent for {3 * _HEARTBEAT_S:g} s") from None

    async def _take_in(self, message: Msg) -> None:
        if not self._options.shared:
            number = message.metadata.sequence.consumer
            if number != self._number + 1:
                raise NatsLost(f"message {self._number + 1} was lost on the way")
            self._number = number
        item = await taken_in(
            message,
            message.subject,
            device_of_subject(message.subject),
            message.data,
            self._inflow,
            losses=message.subject.endswith(".ledger"),
        )
        await self._underway.put(item)

    async def _request_is_over(self, message: Msg) -> bool:
        """Act on what the server says of a request; False when it goes on.

        Raises:
            NatsLost: The consumer is gone, or JetStream does not answer.
        """
        headers = message.headers or {}
        status, said = headers.get("Status"), headers.get("Description", "")
        if status == "100":  # a heartbeat
            return False
        if status in {"404", "408"}:  # nothing there; its time is over
            return True
        if status == "409" and not any(word in said for word in ("Deleted", "Push")):
            await asyncio.sleep(_PAUSE_S)  # such as a change of leader
            return True
        raise NatsLost(f"{status} {said}".strip())

    async def keep(self) -> None:
        """Tell the server of what waits for the database, so that it goes to nobody else meanwhile."""
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            for message in list(self._in_hand.values()):
                await heeding(message.in_progress())

    async def acknowledge(self) -> None:
        """In the order of arrival. A commit that failed ends the connection: then its messages come again."""
        while True:
            group = [await self._underway.get()]
            await durable(group[0], self._committer)
            while len(group) < _GROUP_MAX and not self._underway.empty():
                group.append(self._underway.get_nowait())
                await durable(group[-1], self._committer)
            await _publish(self._connection, group)
            for item in group:
                del self._in_hand[item.message.reply]
                await heeding(item.message.ack())


async def _publish(connection: Client, group: Sequence[Underway[Msg]]) -> None:
    """Name what was committed or refused, one message a device."""
    for device_id, said in acknowledgements(group).items():
        await heeding(connection.publish(ack_subject(device_id), to_json(said)))
