"""An upstream that does what a test says, and remembers what it was given."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

from agent.receiver.packs import unpack
from agent.sync.upstream import LinkLost, Pack, UpstreamError

Answer = Callable[[Pack], UpstreamError | None]


class ScriptedUpstream:
    """`answers` are used up one a pack; after them everything is acknowledged."""

    name = "test://cloud"

    def __init__(
        self, *, lasting: bool = True, max_in_flight: int = 4, max_payload_bytes: int = 48 * 1024
    ) -> None:
        self.lasting = lasting
        self.max_in_flight = max_in_flight
        self.max_payload_bytes = max_payload_bytes
        self.answers: deque[Answer | UpstreamError | None] = deque()
        self.always: Answer | None = None
        self.connect_answers: deque[UpstreamError | None] = deque()
        self.sent: list[Pack] = []
        self.acknowledged: list[Pack] = []
        self.connects = 0
        self.connected = False
        self.in_flight = 0
        self.in_flight_max = 0
        self.gate = asyncio.Event()
        """Cleared, packs stay in flight."""
        self.gate.set()
        self._cut = asyncio.Event()
        self.cut_error = LinkLost("cut")
        """What becomes of packs in flight when the connection is cut."""

    async def connect(self) -> None:
        self.connects += 1
        await asyncio.sleep(0)
        if self.connect_answers and (error := self.connect_answers.popleft()):
            raise error
        self._cut.clear()
        self.connected = True

    async def disconnect(self) -> None:
        self.connected = False

    def cut(self) -> None:
        self._cut.set()

    async def lost(self) -> None:
        await self._cut.wait()

    async def send(self, pack: Pack) -> None:
        assert self.connected
        self.sent.append(pack)
        answer = self.answers.popleft() if self.answers else self.always
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight_max, self.in_flight)
        try:
            gate = asyncio.create_task(self.gate.wait())
            cut = asyncio.create_task(self._cut.wait())
            await asyncio.wait((gate, cut), return_when=asyncio.FIRST_COMPLETED)
            gate.cancel(), cut.cancel()
            if self._cut.is_set():
                raise self.cut_error
            error = answer(pack) if callable(answer) else answer
            if error is not None:
                raise error
            self.acknowledged.append(pack)
        finally:
            self.in_flight -= 1

    @property
    def sent_bounds(self) -> list[tuple[int, int]]:
        return [(pack.first, pack.last) for pack in self.sent]

    @property
    def arrived(self) -> list[tuple[str, int]]:
        """Source and number of each reading in the order of first arrival, as a receiver that dedupes sees them."""
        seen: Counter[int] = Counter()
        arrived = []
        for pack in self.acknowledged:
            for item in unpack(pack.payload).readings:
                if not seen[item.seq]:
                    arrived.append((item.document["source"], item.seq))
                seen[item.seq] += 1
        return arrived
