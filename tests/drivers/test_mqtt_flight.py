"""Places in flight against a model: bounded, in order, and none is lost by a cancellation or a failure."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivers.transport.mqtt_flight import Flight

steps = st.lists(
    st.tuples(st.sampled_from(["ask", "answer", "cancel", "turn"]), st.integers(0, 20)), max_size=60
)


class Air:
    """Publishes that ask for a place, depart and are answered."""

    def __init__(self, limit):
        self.limit, self.flight, self.sent, self.tasks = limit, Flight(limit), [], {}

    async def fly(self, number):
        await self.flight.acquire()
        self.flight.departed(number)
        self.sent.append(number)

    async def step(self, action, choice):
        if action == "ask":
            number = len(self.tasks) + 1
            self.tasks[number] = asyncio.ensure_future(self.fly(number))
        elif action == "answer" and self.sent:
            self.flight.answered(self.sent[choice % len(self.sent)])
        elif action == "cancel" and self.tasks:
            self.tasks[1 + choice % len(self.tasks)].cancel()
        else:
            await asyncio.sleep(0)
        assert len(self.flight) <= self.limit

    async def answer_all(self):
        for number in list(self.sent):
            self.flight.answered(number)
        await asyncio.sleep(0)


@settings(max_examples=200)
@given(st.integers(1, 4), steps)
def test_places_are_bounded_and_given_in_order(limit, actions):
    async def run():
        air = Air(limit)
        for action, choice in actions:
            await air.step(action, choice)
        while not all(task.done() for task in air.tasks.values()):
            await air.answer_all()
        await air.answer_all()
        assert air.sent == sorted(air.sent)
        assert set(air.sent) == {number for number, task in air.tasks.items() if not task.cancelled()}
        for number in range(limit):  # every place is there again
            async with asyncio.timeout(1):
                await air.flight.acquire()
            air.flight.departed(-number - 1)

    asyncio.run(run())


async def test_a_failure_reaches_everyone_who_waits():
    flight = Flight(1)
    await flight.acquire()
    waiting = [asyncio.ensure_future(flight.acquire()) for _ in range(3)]
    await asyncio.sleep(0)
    flight.fail(ConnectionError("gone"))
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(error) for error in errors] == ["gone"] * 3
    flight.release()


async def test_what_was_not_sent_gives_its_place_to_the_next():
    flight = Flight(1)
    await flight.acquire()
    waiting = asyncio.ensure_future(flight.acquire())
    await asyncio.sleep(0)
    assert not waiting.done()
    flight.release()
    await waiting
    flight.departed(1)
    with pytest.raises(AssertionError):
        flight.departed(2)
