"""What a pipeline costs a reading: validate, calibrate, deadband and tag; with and without anybody who listens.

CPU of the process, medians of interleaved rounds. One reading a frame, as most sensors send; and a hundred.

    python -m benchmarks.pipeline [--profile]
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import logging
import pstats
import random
import statistics
import time
from typing import TYPE_CHECKING

from agent.processors.registry import create_processor
from agent.spine.factories import ProcessingLayerFactory
from agent.spine.spine import open_spine
from benchmarks.machine import machine
from collectors.enums import EventType
from collectors.models import Reading

if TYPE_CHECKING:
    from agent.spine.pipeline import Pipeline
    from agent.spine.spine import Spine

READINGS, ROUNDS = 20_000, 9
AIM_US = 25.0
STEPS = [
    ("range", {"metric": "temperature", "low": -40, "high": 85}),
    ("calibrate", {"metric": "temperature", "points": [[0, 0.4], [50, 50.1], [100, 99.8]]}),
    ("deadband", {"metric": "temperature", "width": 0.1}),
    ("tag", {"tags": {"site": "north"}}),
]
EVENTS = (EventType.PROCESSING_START, EventType.PROCESSING_COMPLETE)


def frames(each: int) -> list[list[Reading]]:
    """All readings, so many a frame."""
    rng = random.Random(1)
    readings = [
        Reading(
            source="soil",
            t=float(n),
            values={"temperature": rng.gauss(20, 1), "humidity": 50.0},
            boot=1,
            up=n + 1,
        )
        for n in range(READINGS)
    ]
    return [readings[first : first + each] for first in range(0, READINGS, each)]


async def pipeline(spine: Spine, steps: list[tuple[str, dict[str, object]]]) -> Pipeline:
    made = await ProcessingLayerFactory(spine).create_processing_manager().create_pipeline("p")
    for order, (name, options) in enumerate(steps):
        await made.add_step(create_processor(name, options), order)
    return made


async def cost_us(made: Pipeline, given: list[list[Reading]]) -> float:
    """CPU microseconds a reading."""
    began_s = time.process_time()
    for readings in given:
        await made.execute(readings)
    return (time.process_time() - began_s) / READINGS * 1e6


async def measure() -> None:
    singles, hundreds = frames(1), frames(100)
    async with open_spine() as quiet, open_spine() as heard:
        for event in EVENTS:
            await heard.events.subscribe(event, lambda _: None)
        ways = {
            "four steps, a reading a frame": (await pipeline(quiet, STEPS), singles),
            "no step, a reading a frame": (await pipeline(quiet, []), singles),
            "four steps, 100 readings a frame": (await pipeline(quiet, STEPS), hundreds),
            "four steps, with a subscriber to both events": (await pipeline(heard, STEPS), singles),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, (made, given) in ways.items():
                found[name].append(await cost_us(made, given))
    print(f"CPU us a reading, median of {ROUNDS} (least, most)")
    for name, costs in found.items():
        print(f"{name:<48} {statistics.median(costs):6.1f} ({min(costs):.1f}, {max(costs):.1f})")
    median = statistics.median(found["four steps, a reading a frame"])
    print(f"at most {AIM_US:g} are to be reached: {'reached' if median <= AIM_US else 'ABOVE'}")


async def unheard() -> None:
    """What events and statistics cost that nobody looks at: the pipeline beside its bare steps."""
    async with open_spine() as spine:
        made = await pipeline(spine, STEPS)
        steps = [create_processor(name, options) for name, options in STEPS]
        given = frames(1)
        whole, asked = [], []
        for _ in range(ROUNDS):
            whole.append(await cost_us(made, given))
            began_s = time.process_time()
            for _ in range(READINGS):
                spine.events.has_subscribers(EventType.PROCESSING_START)
                spine.events.has_subscribers(EventType.PROCESSING_COMPLETE)
                for step in steps:
                    spine.clock.monotonic_s()
                    spine.clock.monotonic_s()
                    step.get_processor_name  # noqa: B018 (what a count costs: an attribute)
            asked.append((time.process_time() - began_s) / READINGS * 1e6)
    share = statistics.median(asked) / statistics.median(whole)
    print(
        f"events and statistics that nobody reads: {statistics.median(asked):.2f} us a reading, {share:.1%}"
    )


def profile() -> None:
    """Where the time goes."""
    profiler = cProfile.Profile()
    profiler.enable()
    asyncio.run(measure())
    profiler.disable()
    pstats.Stats(profiler).sort_stats("tottime").print_stats(15)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", action="store_true", help="print where the time goes")
    arguments = parser.parse_args()
    print(machine())
    logging.disable(logging.WARNING)  # the subscriber is slower than the pipeline, and told so
    if arguments.profile:
        profile()
        return
    asyncio.run(measure())
    asyncio.run(unheard())


if __name__ == "__main__":
    main()
