"""What may go wrong on an MQTT connection, split by who must act.

Everything is a `ConnectionError`, as the contract's interfaces ask for.
"""

from __future__ import annotations

from typing import Final

AUTHORISATION_CODES: Final = frozenset({0x86, 0x87, 0x8A, 0x8C})
"""Bad user name or password, not authorised, banned, bad authentication method."""
CONFIGURATION_CODES: Final = frozenset({0x84, 0x85, 0x90, 0x99, 0x9A, 0x9B, 0x9C, 0x9D})
"""Unsupported protocol version, bad client identifier, and other things that waiting does not mend."""
PACKET_TOO_LARGE: Final = 0x95


class MqttError(ConnectionError):
    """Root of all errors of `drivers.transport.mqtt`."""


class MqttUnreachable(MqttError):
    """No MQTT broker answered: name, route, port, TLS or time-out. Trying again may help.

    Attributes:
        certificate: The broker's certificate was not accepted. On a machine without a set clock
            that may pass by itself.
    """

    def __init__(self, message: str, *, certificate: bool = False) -> None:
        super().__init__(message)
        self.certificate = certificate


class MqttConnectRefused(MqttError):
    """The broker answered, and said no.

    Attributes:
        reason_code: MQTT 5 reason code, 0x80 and above (those of 3.1.1 are translated).
    """

    def __init__(self, reason_code: int, reason: str) -> None:
        super().__init__(f"the broker refused the connection: {reason}")
        self.reason_code = reason_code

    @property
    def authorisation(self) -> bool:
        """Credentials or rights are wrong: pause, and tell the user."""
        return self.reason_code in AUTHORISATION_CODES

    @property
    def retryable(self) -> bool:
        """Waiting may help: the broker is busy, over its quota, or going down."""
        return self.reason_code not in AUTHORISATION_CODES | CONFIGURATION_CODES


class MqttRefused(MqttError):
    """The broker refused one publish or one subscription; the connection goes on.

    Attributes:
        reason_code: MQTT reason code, 0x80 and above.
    """

    def __init__(self, reason_code: int, reason: str, subject: str) -> None:
        super().__init__(f"the broker refused {subject}: {reason}")
        self.reason_code = reason_code

    @property
    def authorisation(self) -> bool:
        """The broker's rules forbid it."""
        return self.reason_code in AUTHORISATION_CODES

    @property
    def too_large(self) -> bool:
        """The broker takes no message of that size."""
        return self.reason_code == PACKET_TOO_LARGE


class MqttConnectionLost(MqttError):
    """The connection has ended; what it had not confirmed may or may not have arrived.

    Attributes:
        reason_code: What the broker said when it ended the connection, None when it said nothing.
        without_a_word: The broker closed the connection and said nothing.
        fell_silent: Nothing came from it any more, and we gave it up.
    """

    def __init__(
        self,
        message: str,
        *,
        reason_code: int | None = None,
        without_a_word: bool = False,
        fell_silent: bool = False,
    ) -> None:
        super().__init__(message)
        self.reason_code = reason_code
        self.without_a_word = without_a_word
        self.fell_silent = fell_silent

    def again(self) -> MqttConnectionLost:
        """The same, to be raised once more."""
        return MqttConnectionLost(
            str(self),
            reason_code=self.reason_code,
            without_a_word=self.without_a_word,
            fell_silent=self.fell_silent,
        )
