"""The plumbing under `MqttConnection`: aiomqtt's client with its hooks into paho replaced.

aiomqtt 2.5 gives us the set-up of paho, and what its thread does to connect. What it does with the socket, the replies
and the messages is replaced, because it (each found by reading it, and shown by a test here):

- notices a connection that ends before CONNACK only after its time-out;
- throws away CONNACK's flags and properties, the reason codes of PUBACK, and DUP;
- queues messages without bound, and creates a task for each one taken;
- waits by `asyncio.wait_for`, which in Python 3.11 may swallow a cancellation;
- connects in the threads that all else shares, and leaves what a thread opens when connecting is cancelled.

paho 2 in turn asks the kernel for each packet's first byte, its length and its body separately, and
builds a lock and a condition variable for each message: `_receive` reads in blocks, and `_on_packet_publish`
decodes by ourselves. It also leaks a socket whose TLS handshake fails: `open_socket`. And where a socket has nothing to read
it looks if TLS says so, for which OpenSSL has to be loaded: our sockets all say it alike (`_receive_block`, `_send`).

Both are pinned below their next major version; the tests in tests/drivers fail when a hook no longer holds.

One object is one connection. Everything but `_client_connect` and `open_socket` runs on the event loop.
"""
# ruff: noqa: SLF001 (hooking paho's private parts is what this module is for; it is the only one that does)

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import aiomqtt
import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from drivers.transport.apart import run_apart
from drivers.transport.mqtt_errors import MqttConnectionLost, MqttConnectRefused, MqttUnreachable
from drivers.transport.mqtt_packets import PUBACK, Publish, decode_publish
from drivers.transport.mqtt_reasons import in_words
from drivers.transport.mqtt_socket import open_socket
from drivers.transport.websocket import WebSocketError
from drivers.transport.websocket_stream import WebSocketStream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paho.mqtt.reasoncodes import ReasonCode

    from drivers.transport.mqtt_options import MqttOptions

READ_BYTES: Final = 65536
TURN_S: Final = 0.001
"""So long packets are handled before the event loop serves others."""
TICK_S: Final = 1.0
CLOSE_TIMEOUT_S: Final = 1.0
"""For what is queued and for DISCONNECT, when the other side does not read."""
RECEIVE_MAXIMUM_DEFAULT: Final = 65535
V5: Final = 5


class Reply(NamedTuple):
    """What the broker answers to one of our packets."""

    codes: Sequence[ReasonCode]
    """One a subscription; one for a message."""
    said: str
    """Its Reason String, empty when it has none."""


class Events(Protocol):
    """What the plumbing tells its owner, always on the event loop."""

    def on_message(self, message: Publish) -> None:
        """A message came."""

    def on_reply(self, packet_id: int, reply: Reply) -> None:
        """PUBACK, SUBACK or UNSUBACK came, or a QoS 0 message was written."""

    def on_end(self, error: MqttConnectionLost | None) -> None:
        """The connection is over: lost, or None for our own close."""


class PahoClient(aiomqtt.Client):
    """One network connection; `open` once, then `close` or `abort`.

    Attributes:
        session_present: The broker kept our session (after `open`).
        receive_maximum: How many QoS 1 publishes the broker takes at once (after `open`).
        maximum_packet_size: The largest packet that the broker takes, None for any (after `open`).
    """

    def __init__(self, options: MqttOptions, events: Events) -> None:
        self.session_present = False
        self.receive_maximum = RECEIVE_MAXIMUM_DEFAULT
        self.maximum_packet_size: int | None = None
        self._options = options
        self._events = events
        self._handover = threading.Lock()
        self._abandoned = False
        self._attached = False
        self._ended = False
        self._paused = False
        self._failure: OSError | None = None
        self._complaint: str | None = None
        self._chunk: bytes = b""
        self._chunk_at = 0
        self._pending: Callable[[], int] | None = None
        self._writer_fd: int | None = None
        self._ticker: asyncio.TimerHandle | None = None
        v5 = options.protocol == V5
        super().__init__(
            options.host,
            options.port,
            username=options.username,
            password=options.password,
            identifier=options.client_id or None,
            protocol=aiomqtt.ProtocolVersion(options.protocol),
            timeout=options.connect_timeout_s,
            keepalive=options.keepalive_s,
            # MQTT 3.1.1 has one flag for 'forget what was' and 'forget it afterwards'.
            clean_session=None if v5 else options.clean_start and options.session_expiry_s == 0,
            clean_start=options.clean_start if v5 else paho.MQTT_CLEAN_START_FIRST_ONLY,
            properties=_connect_properties(options) if v5 else None,
            max_inflight_messages=0,  # paho shall not queue: MqttConnection bounds what is in flight
        )
        client = self._client
        client.disable_logger()  # every failure is an exception here; paho would log it once more
        client.manual_ack_set(on=True)
        client._create_socket = lambda: open_socket(options)  # type: ignore[method-assign]
        client._sock_recv = self._receive  # type: ignore[method-assign, assignment]
        client._sock_send = self._send  # type: ignore[method-assign, assignment]
        client._handle_publish = self._on_packet_publish  # type: ignore[method-assign]

    # Connecting and closing

    async def open(self) -> None:
        """Connect; returns after a good CONNACK.

        Raises:
            MqttUnreachable: No broker answered.
            MqttConnectRefused: It said no.
        """
        address = self._options.address
        try:
            async with asyncio.timeout(self._options.connect_timeout_s):
                await run_apart(f"connect {self._options.client_id}@{address}", self._client_connect)
                await self._connected
        except (MqttUnreachable, MqttConnectRefused):
            self.abort()
            raise
        except OSError as error:
            self.abort()
            if self._failure is None and isinstance(error, TimeoutError):
                seconds = self._options.connect_timeout_s
                raise MqttUnreachable(f"{address} did not answer within {seconds:g} s") from error
            cause = self._failure or error
            certificate = self._options.tls is not None and _is_of_certificate(cause)
            raise MqttUnreachable(f"{address} cannot be reached: {cause}", certificate=certificate) from cause
        except BaseException:
            self.abort()
            raise

    async def close(self) -> None:
        """Send what is queued and DISCONNECT, within a second; then the socket is closed in any case."""
        try:
            if self._attached and not self._ended and self._client.socket() is not None:
                self._client.disconnect()
                self._writable()
                if self._client.socket() is not None:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(CLOSE_TIMEOUT_S):
                            await asyncio.shield(self._disconnected)
        finally:
            self.abort()

    def abort(self) -> None:
        """Close the socket at once. Harmless when it is closed."""
        with self._handover:
            self._abandoned = True  # a thread still connecting closes what it gets
            connected = self._attached
        if connected:
            self._client._sock_close()
        self._end(None)

    def _client_connect(self) -> None:
        """In a thread: name, TCP, TLS, and CONNECT put into paho's queue."""
        try:
            super()._client_connect()
        except OSError as error:
            self._failure = error
            raise
        except UnicodeError as error:  # a host name that cannot be one
            self._failure = OSError(str(error))
            raise self._failure from error
        with self._handover:
            if self._abandoned:
                self._client._sock_close()
            else:
                self._attached = True
                self._loop.call_soon_threadsafe(self._attach)

    def _attach(self) -> None:
        """On the event loop: take over the socket from the thread."""
        sock = self._client.socket()
        if self._ended or sock is None:
            return
        self._pending = getattr(sock, "pending", None)
        self._loop.add_reader(sock.fileno(), self._readable)
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        self._writable()
        if self._decrypted():
            self._loop.call_soon(self._readable)

    def _end(self, error: MqttConnectionLost | None) -> None:
        if self._ended:
            return
        self._ended = True
        if self._ticker is not None:
            self._ticker.cancel()
        if not self._disconnected.done():
            self._disconnected.set_result(None)
        self._events.on_end(error)

    # Socket: what the event loop and paho tell

    def _readable(self) -> None:
        client = self._client
        try:
            until = time.monotonic() + TURN_S
            while time.monotonic() < until:
                if self._ended or self._paused:
                    return
                client.loop_read()
                if self._chunk_at == len(self._chunk) and not self._decrypted():
                    return
        except Exception as error:  # noqa: BLE001 (whatever it is, this connection is of no more use, and says why)
            self._fail(error)
        else:
            self._loop.call_soon(self._readable)

    def _decrypted(self) -> bool:
        """Whether TLS or WebSocket holds bytes that the kernel no longer knows of. A plain socket has none."""
        return self._pending is not None and self._client.socket() is not None and self._pending() > 0

    def _receive(self, size: int) -> bytes:
        """Instead of paho's `_sock_recv`: the same, from a block read ahead."""
        start = self._chunk_at
        if size > self._options.packet_bytes_max:
            self._complaint = f"sent a packet of {size} bytes, beyond {self._options.packet_bytes_max}"
            raise ConnectionError(self._complaint)
        if start == len(self._chunk):
            self._chunk, self._chunk_at = b"", 0
            block = self._receive_block()
            if len(block) <= size:
                return block
            self._chunk, start = block, 0
        self._chunk_at = min(start + size, len(self._chunk))
        return self._chunk[start : self._chunk_at]

    def _receive_block(self) -> bytes:
        sock = self._client.socket()
        if sock is None:
            raise ConnectionError("the socket is closed")
        try:
            block: bytes = sock.recv(READ_BYTES)
        except WebSocketError as error:
            self._complaint = self._options.secrecy.hide(str(error))
            raise
        if not block and isinstance(sock, WebSocketStream) and sock.closed is not None:
            self._complaint = f"closed the WebSocket: {self._options.secrecy.hide(sock.closed)}"
        return block

    def _send(self, data: bytes | bytearray) -> int:
        """Instead of paho's `_sock_send`."""
        sock = self._client.socket()
        if sock is None:
            raise ConnectionError("the socket is closed")
        try:
            return int(sock.send(data))
        except BlockingIOError:
            self._client._call_socket_register_write()
            raise

    def _writable(self) -> None:
        client = self._client
        if self._ended or (sock := client.socket()) is None:
            return
        try:
            client.loop_write()
        except Exception as error:  # noqa: BLE001 (as in _readable)
            self._fail(error)
            return
        if self._writer_fd is None and client.want_write() and client.socket() is not None:
            self._writer_fd = sock.fileno()
            self._loop.add_writer(self._writer_fd, self._writable)

    def _fail(self, error: Exception) -> None:
        lost = MqttConnectionLost(f"the connection to {self._options.address} broke: {error!r}")
        lost.__cause__ = error
        self._client._sock_close()
        if not self._connected.done():
            self._connected.set_exception(MqttUnreachable(str(lost)))
            self._connected.exception()  # seen: nobody may be waiting any more
        self._end(lost)

    def _on_socket_open(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        """`_attach` does it, on the event loop."""

    def _on_socket_close(self, client: paho.Client, userdata: Any, sock: Any) -> None:
        if self._attached and sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            self._on_socket_unregister_write(client, userdata, sock)

    def _on_socket_register_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:  # noqa: ARG002 (paho's)
        if self._attached and self._writer_fd is None:
            # Together with what else this turn of the loop sends; only what the kernel
            # does not take at once waits for the selector.
            self._loop.call_soon(self._writable)

    def _on_socket_unregister_write(self, client: paho.Client, userdata: Any, sock: Any) -> None:  # noqa: ARG002 (paho's)
        if self._writer_fd is not None:
            self._loop.remove_writer(self._writer_fd)
            self._writer_fd = None

    def _tick(self) -> None:
        """Once a second: keep alive, and notice a dead link."""
        if self._ended:
            return
        client = self._client
        if self._paused:
            # We do not read, so silence says nothing about the link; the broker
            # must hear from us none the less.
            client._ping_t = 0.0
            client._last_bytes_received = time.monotonic()
        self._ticker = self._loop.call_later(TICK_S, self._tick)
        client.loop_misc()

    # Pausing

    @property
    def paused(self) -> bool:
        """Whether reading from the socket is suspended."""
        return self._paused

    def pause(self) -> None:
        """Read no more: the kernel's buffers fill, and the broker has to wait."""
        sock = self._client.socket()
        if not self._paused and sock is not None:
            self._paused = True
            self._loop.remove_reader(sock.fileno())

    def resume(self) -> None:
        """Read again."""
        if not self._paused:
            return
        self._paused = False
        sock = self._client.socket()
        if sock is not None:
            self._loop.add_reader(sock.fileno(), self._readable)
            self._loop.call_soon(self._readable)  # for what was read ahead

    # Packets

    def send_pubacks(self, packets: bytes) -> None:
        """Send PUBACKs, encoded one after the other, with one call of the kernel."""
        self._client._packet_queue(PUBACK, packets, 0, 1)

    def send_publish(
        self, topic: str, payload: bytes, qos: int, *, retain: bool, properties: Properties | None
    ) -> int:
        """Put a PUBLISH on its way; its packet id.

        Raises:
            MqttConnectionLost: The connection is over.
        """
        info = self._client.publish(topic, payload, qos, retain, properties)
        if info.rc != paho.MQTT_ERR_SUCCESS:
            self._client._out_messages.pop(info.mid, None)
            raise MqttConnectionLost(f"not sent: {paho.error_string(info.rc)}")
        return info.mid

    def send_subscribe(self, topic_filter: str, qos: int, *, retained: bool) -> int:
        """Put a SUBSCRIBE on its way; its packet id.

        Raises:
            MqttConnectionLost: The connection is over.
            ValueError: The topic filter is none.
        """
        if self._options.protocol == V5:
            handling = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB
            if not retained:
                handling = SubscribeOptions.RETAIN_DO_NOT_SEND
            options = SubscribeOptions(qos, retainHandling=handling)
            code, packet_id = self._client.subscribe(topic_filter, options=options)
        else:
            code, packet_id = self._client.subscribe(topic_filter, qos)
        if code != paho.MQTT_ERR_SUCCESS or packet_id is None:
            raise MqttConnectionLost(f"not sent: {paho.error_string(code)}")
        return packet_id

    def send_unsubscribe(self, topic_filter: str) -> int:
        """Put an UNSUBSCRIBE on its way; its packet id.

        Raises:
            MqttConnectionLost: The connection is over.
        """
        code, packet_id = self._client.unsubscribe(topic_filter)
        if code != paho.MQTT_ERR_SUCCESS or packet_id is None:
            raise MqttConnectionLost(f"not sent: {paho.error_string(code)}")
        return packet_id

    def _on_packet_publish(self) -> MQTTErrorCode:
        """Instead of paho's `_handle_publish`."""
        packet = self._client._in_packet
        try:
            message = decode_publish(
                packet["command"], packet["packet"], properties=self._options.protocol == V5
            )
        except ValueError:
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        self._events.on_message(message)
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _on_connect(
        self,
        client: paho.Client,  # noqa: ARG002 (the signature is aiomqtt's)
        userdata: Any,  # noqa: ARG002 (likewise)
        flags: paho.ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._connected.done():
            return
        if reason_code.is_failure:
            self._connected.set_exception(
                MqttConnectRefused(reason_code.value, self._in_words(reason_code, properties))
            )
            self._connected.exception()  # seen: nobody may be waiting any more
            return
        self.session_present = flags.session_present
        self.receive_maximum = getattr(properties, "ReceiveMaximum", RECEIVE_MAXIMUM_DEFAULT)
        self.maximum_packet_size = getattr(properties, "MaximumPacketSize", None)
        self._connected.set_result(None)

    def _on_disconnect(
        self,
        client: paho.Client,  # noqa: ARG002 (the signature is aiomqtt's)
        userdata: Any,  # noqa: ARG002 (likewise)
        flags: paho.DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        address = self._options.address
        if not self._connected.done():
            self._connected.set_exception(MqttUnreachable(f"{address} closed the connection before CONNACK"))
            self._connected.exception()  # seen: nobody may be waiting any more
        if flags.is_disconnect_packet_from_server:
            told = f"{address} ended the connection: {self._in_words(reason_code, properties)}"
            self._end(MqttConnectionLost(told, reason_code=reason_code.value))
        elif reason_code.is_failure:
            silent = str(reason_code) == "Keep alive timeout"
            what = self._complaint or ("fell silent" if silent else "closed the connection")
            unsaid = self._complaint is None and not silent
            self._end(MqttConnectionLost(f"{address} {what}", without_a_word=unsaid, fell_silent=silent))
        elif not self._disconnected.done():
            self._disconnected.set_result(None)

    def _said(self, properties: Properties | None) -> str:
        """What the broker itself says: why, and where else to go; none of what it must not show."""
        said = (getattr(properties, name, "") for name in ("ReasonString", "ServerReference"))
        return self._options.secrecy.hide(" ".join(text for text in said if text))

    def _in_words(self, reason_code: ReasonCode, properties: Properties | None) -> str:
        return in_words(reason_code.value, client_id=self._options.client_id, said=self._said(properties))

    def _on_publish(
        self,
        client: paho.Client,  # noqa: ARG002 (the signature is aiomqtt's)
        userdata: Any,  # noqa: ARG002 (likewise)
        mid: int,
        reason_code: ReasonCode,
        properties: Properties,
    ) -> None:
        self._events.on_reply(mid, Reply((reason_code,), self._said(properties)))

    def _on_subscribe(
        self,
        client: paho.Client,  # noqa: ARG002 (the signature is aiomqtt's)
        userdata: Any,  # noqa: ARG002 (likewise)
        mid: int,
        reason_codes: list[ReasonCode],
        properties: Properties | None = None,
    ) -> None:
        self._events.on_reply(mid, Reply(reason_codes, self._said(properties)))

    _on_unsubscribe = _on_subscribe


def _is_of_certificate(error: BaseException) -> bool:
    from drivers.transport.tls import is_of_certificate  # loads OpenSSL

    return is_of_certificate(error)


def _connect_properties(options: MqttOptions) -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho's
    properties.ReceiveMaximum = options.receive_maximum
    properties.MaximumPacketSize = options.packet_bytes_max
    if options.session_expiry_s:
        properties.SessionExpiryInterval = options.session_expiry_s
    return properties
