"""What can be set about a buffer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, get_args

from buffer.filesystem import FileSystem, SystemFileSystem
from buffer.lanes import ALARM, NORMAL
from buffer.quarantine import FILES_MAX
from collectors.clock import Clock, SystemClock

_SEGMENT_BYTES_MIN = 4 << 10
_SEGMENT_BYTES_MAX = 64 << 20
_DAY_S = 86_400.0

FullPolicy = Literal["drop_oldest", "drop_newest", "block"]
_POLICIES: Final = get_args(FullPolicy)

CHANGEABLE: Final = frozenset(
    {
        "card_endurance_bytes",
        "full",
        "keep_delivered_s",
        "max_age_s",
        "quota_bytes",
        "reserve_bytes",
        "sync",
        "window_s",
    }
)
"""What can be set anew while a buffer is open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferOptions:
    """The options of a buffer, checked.

    Raises:
        ValueError: One makes no sense; the message says which, and what would.
    """

    device_id: str = ""
    """Whose readings these are."""
    machine_id: str = ""
    """Which machine this is: a card that wakes up in another one gets a new store id."""
    window_s: float = 1.0
    """How long a record that nobody waits for may be in memory only."""
    sync: Literal["window", "each"] = "window"
    """`each`: every insert is durable when it returns; what is only appended is committed without a window."""
    segment_bytes: int = 4 << 20
    """The size at which a file is sealed and the next one begun."""
    keep_delivered_s: float = 7 * _DAY_S
    """How long delivered records stay for local history, inside the quota."""
    pending_bytes_max: int = 8 << 20
    """How much may wait in memory while the disk is slow or refuses."""
    quota_bytes: int | None = None
    """How much the readings may take on disk; None: as much as there is."""
    reserve_bytes: int = 0
    """How much of the disk must stay free for others; at most a tenth of it."""
    max_age_s: float | None = None
    """How long undelivered records are kept; None: until they are delivered."""
    full: FullPolicy | Mapping[str, FullPolicy] = "drop_oldest"
    """What happens when quota or reserve are reached and nothing delivered is left to go; one for all
    records, or one for each lane, `normal` and `alarm`.

    `drop_oldest` loses the oldest segment, `drop_newest` what comes in; both are entered in the loss
    ledger, and normal records go before alarms do. `block` loses nothing here: `append` raises once
    memory is full too, so that sources that can wait do, and others lose at their end.
    """
    card_endurance_bytes: int | None = None
    """How much can be written to the card in its life, as its maker states it; None: not stated."""
    dead_letter_bytes_max: int = 16 << 20
    """How much the table `dead_letters` may take; its oldest segment goes first, and is counted."""
    quarantine_files_max: int | None = FILES_MAX
    """How many damaged files are kept, the oldest making room for a new one; None keeps them all."""
    fs: FileSystem = field(default_factory=SystemFileSystem)
    clock: Clock = field(default_factory=SystemClock)
    clock_trusted: Callable[[], bool] = lambda: True
    """Whether the wall clock is known to be right: only then it says what is older than `max_age_s`."""
    threaded: bool = True
    """False: nothing happens by itself; `flush` and `maintain` do all. For tests that must repeat."""

    def __post_init__(self) -> None:
        self._require(self.window_s >= 0, "window_s", "0 or more seconds")
        self._require(self.sync in {"window", "each"}, "sync", "'window' or 'each'")
        self._require(
            _SEGMENT_BYTES_MIN <= self.segment_bytes <= _SEGMENT_BYTES_MAX,
            "segment_bytes",
            f"{_SEGMENT_BYTES_MIN} to {_SEGMENT_BYTES_MAX}",
        )
        self._require(self.keep_delivered_s >= 0, "keep_delivered_s", "0 or more seconds")
        self._require(self.pending_bytes_max > 0, "pending_bytes_max", "more than 0")
        self._require(
            self.quota_bytes is None or self.quota_bytes >= 2 * self.segment_bytes,
            "quota_bytes",
            f"at least two segments ({2 * self.segment_bytes}), or None",
        )
        self._require(self.reserve_bytes >= 0, "reserve_bytes", "0 or more")
        self._require(
            self.max_age_s is None or self.max_age_s > 0, "max_age_s", "more than 0 seconds, or None"
        )
        policies = {NORMAL: self.full, ALARM: self.full} if isinstance(self.full, str) else dict(self.full)
        self._require(
            policies.keys() == {NORMAL, ALARM} and all(each in _POLICIES for each in policies.values()),
            "full",
            "'drop_oldest', 'drop_newest' or 'block', or one of them for each of 'normal' and 'alarm'",
        )
        self._require(self.dead_letter_bytes_max > 0, "dead_letter_bytes_max", "more than 0")
        self._require(
            self.quarantine_files_max is None or self.quarantine_files_max > 0,
            "quarantine_files_max",
            "more than 0, or None",
        )

    @property
    def gather_s(self) -> float:
        """How long what nobody waits for gathers."""
        return self.window_s if self.sync == "window" else 0.0

    def policy(self, lane: str) -> FullPolicy:
        """What happens to the records of a lane when there is no room."""
        return self.full if isinstance(self.full, str) else self.full[lane]

    def _require(self, holds: bool, name: str, right: str) -> None:  # noqa: FBT001 (a condition)
        if not holds:
            raise ValueError(f"{name} is {getattr(self, name)!r}; it must be {right}")
