"""The topics of a source, as the broker's session holds them.

A session that lives through restarts holds every topic filter that was ever subscribed to in it, and cannot be asked
which those are. One that an earlier configuration named would bring its messages for ever; where it overlaps with a
present one, Mosquitto delivers each message twice, as two messages. So what is in the session is noted durably before
it is asked for, and what is not wanted any more is unsubscribed: after the present topics are subscribed to, since the
other way round messages would be lost in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from drivers.transport.mqtt import RESUMED_TIMEOUT_S, MqttRefused

if TYPE_CHECKING:
    from collections.abc import Sequence

    from collectors.interfaces import Memory
    from drivers.mqtt.topics import TopicTemplate
    from drivers.transport.mqtt import MqttConnection


class Subscription:
    """What to subscribe to, and what the session may hold beside it.

    Args:
        client_id: Names the session.
        templates: The topics.
        qos: The QoS to ask for.
        retained: Whether to ask for messages that the broker stored before.

    Attributes:
        memory: Where the filters in the session are noted; None when nothing is.
        remarks: What the broker did not grant at the last `take_up`.
    """

    def __init__(
        self,
        client_id: str,
        templates: Sequence[TopicTemplate],
        qos: int,
        retained: Literal["skip", "store"],
    ) -> None:
        self.memory: Memory | None = None
        self.remarks: tuple[str, ...] = ()
        self._client_id = client_id
        self._filters = [template.filter for template in templates]
        self._qos = qos
        self._retained = retained == "store"

    async def take_up(self, connection: MqttConnection) -> Sequence[str]:
        """Make the session hold the present topics and no others; what was not granted, in words.

        A topic that is refused keeps no other from being collected.

        Raises:
            MqttRefused: The broker refuses every topic.
            MqttConnectionLost: The connection ended.
            MqttUnreachable: The broker does not answer.
        """
        resumed = connection.session_present
        timeout_s = RESUMED_TIMEOUT_S if resumed else None
        former = self._former() if resumed else []
        await self._note([*self._filters, *former])
        remarks: list[str] = []
        refusals: list[MqttRefused] = []
        for topic_filter in self._filters:
            try:
                granted = await connection.subscribe(
                    topic_filter, self._qos, retained=self._retained, timeout_s=timeout_s
                )
            except MqttRefused as refusal:
                refusals.append(refusal)
                remarks.append(str(refusal))
                continue
            if granted < self._qos:
                remarks.append(
                    f"the broker grants QoS {granted} for {topic_filter}: what comes while we are away is lost"
                )
        if len(refusals) == len(self._filters):
            raise refusals[0]
        kept = []
        for topic_filter in former:
            try:
                await connection.unsubscribe(topic_filter, timeout_s=timeout_s)
            except MqttRefused as refusal:
                kept.append(topic_filter)
                remarks.append(str(refusal))
        await self._note([*self._filters, *kept])
        self.remarks = tuple(remarks)
        return remarks

    def _former(self) -> list[str]:
        """Filters that the session holds and that are not wanted any more."""
        notes = self.memory.recall() if self.memory is not None else {}
        held = notes.get("filters", []) if notes.get("client") == self._client_id else []
        return [topic_filter for topic_filter in held if topic_filter not in self._filters]

    async def _note(self, filters: Sequence[str]) -> None:
        notes = {"client": self._client_id, "filters": sorted(filters)}
        if self.memory is not None and self.memory.recall() != notes:
            await self.memory.note(notes)
