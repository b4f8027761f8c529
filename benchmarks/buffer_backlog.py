"""What a backlog costs: memory, opening, storing more, and taking it out again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.buffer_child import run
from benchmarks.buffer_workload import folder, median, told_at_least, told_within

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MILLION = 1_000_000
_OPENINGS = 5


def slope(cpu_us: Sequence[float]) -> float:
    """How much more CPU time a reading takes at the end than at the beginning, in per cent: least squares."""
    n = len(cpu_us)
    middle, mean = (n - 1) / 2, sum(cpu_us) / n
    spread = sum((at - middle) ** 2 for at in range(n))
    a_step = sum((at - middle) * (each - mean) for at, each in enumerate(cpu_us)) / spread
    return a_step * (n - 1) / (mean - a_step * middle) * 100


def _openings(place: Path, times: int) -> dict[str, float]:
    found = [run("opening", place) for _ in range(times)]
    return {key: median([each[key] for each in found]) for key in ("ms", "mb", "records")}


def backlog(
    directory: Path | None, seconds: float, *, million: int = _MILLION, openings: int = _OPENINGS
) -> None:
    """Print what a million readings, and ten million, cost."""
    rounds = max(1, round(seconds / 40))
    with folder(directory) as place:
        _storing(place, rounds, million)
        _keeping(place, million, openings)
        _taking(place, rounds, million)
        _ten(place, million, openings)


def _storing(place: Path, rounds: int, million: int) -> None:
    filled = [run("fill", place / f"fill-{at}", million, "closed") for at in range(rounds)]
    # The least of the rounds: what else the machine does only ever adds to it.
    cpu = [min(each["cpu_us"][at] for each in filled) for at in range(len(filled[0]["cpu_us"]))]
    print(f"\nstoring {million:,} readings in thousands: {median(cpu):.2f} us of CPU each,")
    print(
        f"  from the first to the last {slope(cpu):+.0f} % {told_within(abs(slope(cpu)), 15)}, the least of {rounds}"
    )


def _keeping(place: Path, million: int, openings: int) -> None:
    run("fill", place / "killed", million, "killed")
    run("opening", place / "empty")
    empty, full = _openings(place / "empty", openings), _openings(place / "fill-0", openings)
    killed = run("opening", place / "killed")  # the first one recovers; the others find it done
    print(f"\nopening, median of {openings} processes, files not in the page cache{'ms':>20}{'RSS, MB':>10}")
    print(f"{'  an empty buffer':70}{empty['ms']:>8.1f}{empty['mb']:>10.1f}")
    for name, found in ((f"  {million:,} readings", full), ("  after kill -9 (one opening)", killed)):
        more = found["mb"] - empty["mb"]
        print(f"{name:70}{found['ms']:>8.1f}{found['mb']:>10.1f}", end="")
        print(f"   {told_within(found['ms'], 50)}; {more:+.1f} MB {told_within(more, 2)}")


def _taking(place: Path, rounds: int, million: int) -> None:
    empty = run("drain", place / "empty", "encoded")["peak_mb"]
    print(
        f"\ntaking {million:,} readings out, 1,000 a batch, each acknowledged{'readings/s':>14}{'us of CPU':>11}"
    )
    for how in ("encoded", "parsed"):
        found = [run("drain", place / f"fill-{at}", how) for at in range(rounds)]
        rate, peak = median([each["rate"] for each in found]), median([each["peak_mb"] for each in found])
        cpu = median([each["cpu_us"] for each in found])
        reached = told_at_least(rate, million) + ", " if how == "encoded" else ""
        print(f"{'  ' + how:58}{rate:>14,.0f}{cpu:>11.2f}", end="")
        print(f"   {reached}peak RSS {peak - empty:+.1f} MB {told_within(peak - empty, 8)}")


def _ten(place: Path, million: int, openings: int) -> None:
    ten: dict[str, Any] = run("fill", place / "ten", 10 * million, "closed")
    found = _openings(place / "ten", openings)
    print(
        f"\nopening {10 * million:,} readings: {found['ms']:.1f} ms {told_within(found['ms'], 50)},", end=" "
    )
    print(f"{found['mb']:.1f} MB; storing them took {median(ten['cpu_us']):.2f} us of CPU each")
