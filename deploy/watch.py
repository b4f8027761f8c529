"""Asks the agent how it does, at its socket, and watches a new release: what install.sh needs to know of it.

    watch.py note SOCKETS              how it does now, in a line of JSON with the time
    watch.py settle SOCKETS NAME=...   whether the new release does its work (`Watched`); says what is missing

SOCKETS are paths, a line each, of which the first that answers counts. 0 means that it answered, or does its work. One process
watches all the time, and asks without any package: starting `outstation status` for each look keeps a small device from its work.
Runs on Python 3.11 or later: `python -I -S -B`.
"""

import io
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # which -I leaves out

from judge import Report, judge

ANSWER_S = 5.0
"""An agent has so long for a report; a busy device takes a second or two."""
REPORT_BYTES_MAX = 16 << 20
TRIES = 3
AGAIN_S = 1.0
"""Between two looks."""
DOCTOR_S = 180.0
PROPERTIES_S = 30.0
SAMPLES = 3
"""Less than so many reports of the release before tell nothing."""
UNIT = "outstation.service"


def say(text: str) -> None:
    """As install.sh does."""
    sys.stdout.write(f"install.sh: {text}\n")
    sys.stdout.flush()


def ask(sockets: Sequence[str]) -> Report | None:
    """What the agent reports; None while none answers, or not with a report."""
    return next((report for path in sockets if (report := _asked(path)) is not None), None)


def _asked(path: str) -> Report | None:
    until_s = time.monotonic() + ANSWER_S
    answer = bytearray()
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_S)
            connection.connect(path)
            # Who says nothing gets the report.
            connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                answer += piece
                connection.settimeout(until_s - time.monotonic())
                if len(answer) > REPORT_BYTES_MAX:
                    return None
        report = json.loads(answer)
    except (OSError, ValueError, RecursionError):  # ValueError: no JSON, or no time left
        return None
    return {"at": datetime.now(UTC).isoformat()} | report if isinstance(report, dict) else None


def note(sockets: Sequence[str]) -> bool:
    """Print how the agent does; a busy device may not answer at once."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(AGAIN_S)
        if (report := ask(sockets)) is not None:
            sys.stdout.write(f"{json.dumps(report)}\n")
            return True
    return False


@dataclass(frozen=True)
class Look:
    """The service at one time."""

    restarts: int = 0
    report: Report | None = None
    """None unless it is active, of the release that is watched, and answers."""


@dataclass(frozen=True)
class Watched:
    """A release that was changed over to, and what is asked of it; each field a word NAME=VALUE of the command line."""

    sockets: Sequence[str]
    releases: Path
    """The folder of all of them."""
    after: str
    before: str
    did_before: Path
    """How the release before did: reports, a line each."""
    configuration: str
    ready_s: float
    steady_s: float
    progress_s: float
    restarts_max: int

    def look(self) -> Look:
        """Look at the service, and ask it."""
        state = properties("ActiveState", "NRestarts", "MainPID")
        restarts = int(state.get("NRestarts") or 0)
        works = state.get("ActiveState") in {"active", "reloading"}
        if not works or self._release_of(state.get("MainPID", "")) != self.after:
            return Look(restarts)
        return Look(restarts, ask(self.sockets))

    def _release_of(self, pid: str) -> str | None:
        """Of which release a process is, by what it was started with."""
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return None
        within = os.fsencode(self.releases) + b"/"
        names = (os.fsdecode(word.removeprefix(within)) for word in words if word.startswith(within))
        return next((name.partition("/")[0] for name in names), None)

    def samples(self) -> list[str]:
        """How the release before did."""
        try:
            return self.did_before.read_text("utf-8", "replace").splitlines()
        except OSError:
            return []

    def doctor(self) -> Report:
        """What the release before finds wrong now; nothing when it does not say."""
        doctor = self.releases / self.before / "venv/bin/outstation"
        try:
            done = subprocess.run(  # noqa: S603 (a program of ours)
                [doctor, "doctor", "--config", self.configuration, "--json"],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=DOCTOR_S,
            )
            found = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            found = None
        return found if isinstance(found, dict) else {"findings": []}


def properties(*names: str) -> dict[str, str]:
    """Of the service; none while systemd does not tell."""
    order = ["systemctl", "show", "-p", ",".join(names), UNIT]
    try:
        done = subprocess.run(  # noqa: S603 (a fixed command)
            order, check=True, stdout=subprocess.PIPE, text=True, timeout=PROPERTIES_S
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


class Watch:
    """Watches until the release does its work, or is found not to.

    Args:
        watched: Which.
        sleep: Waits so many seconds.
        clock: Seconds, of a clock that nobody sets: a Pi's is set after every boot.
    """

    def __init__(
        self, watched: Watched, sleep: Callable[[float], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._watched = watched
        self._sleep = sleep
        self._clock = clock

    def does_its_work(self) -> bool:
        """Whether it becomes ready and stays it, without a restart, and then does what the one before did."""
        until_s = self._clock() + self._watched.ready_s
        while self._clock() < until_s:
            first = self._watched.look()
            if self._ends_again_and_again(first):
                return False
            if first.report is not None:
                self._sleep(self._watched.steady_s)
                now = self._watched.look()
                if now.report is not None and now.restarts == first.restarts:
                    return self._does_what_the_one_before_did(first.report, now.report)
            self._sleep(AGAIN_S)
        return False

    def _ends_again_and_again(self, look: Look) -> bool:
        return look.restarts > self._watched.restarts_max

    def _does_what_the_one_before_did(self, first: Report, now: Report) -> bool:
        """As soon as all of it is so again, or when the time is over and the release before finds no fault with what is missing."""
        lines = self._watched.samples()
        if len(lines) < SAMPLES:
            say(
                "how the release before did is not known, so no more is asked of this one than to run and to report"
            )
            return True
        say("seeing whether it does what the release before did")
        try:
            samples = [json.loads(line) for line in lines]
        except (ValueError, RecursionError) as error:
            say(f"what the release before did cannot be read: {error}")
            return True
        until_s = self._clock() + self._watched.progress_s
        good, said = judge(samples, first, now)
        while not good and self._clock() < until_s:
            self._sleep(AGAIN_S)
            look = self._watched.look()
            if self._ends_again_and_again(look):
                return False
            now = look.report or now
            good, said = judge(samples, first, now)
        if not good:
            last = self._last_report()
            if last is None:
                say("it does not answer any more")
                return False
            good, said = judge(samples, first, last, self._watched.doctor())
        for line in said:
            say(line)
        return good

    def _last_report(self) -> Report | None:
        """None when it does not answer any more, which no outage excuses; a busy device may not do so at once."""
        until_s = self._clock() + self._watched.steady_s
        while (report := self._watched.look().report) is None and self._clock() < until_s:
            self._sleep(AGAIN_S)
        return report


def sleep_while_wanted(seconds: float) -> None:
    """Sleep; end when whoever started this has ended, and so nobody hears the verdict."""
    until_s = time.monotonic() + seconds
    while True:
        if os.getppid() != PARENT:
            sys.exit("install.sh has ended")
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            return
        time.sleep(min(left_s, AGAIN_S))


def settings(words: Sequence[str], sockets: Sequence[str]) -> Watched:
    """From the words of the command line."""
    given = dict(word.split("=", 1) for word in words)
    return Watched(
        sockets=sockets,
        releases=Path(given["releases"]),
        after=given["after"],
        before=given["before"],
        did_before=Path(given["did_before"]),
        configuration=given["configuration"],
        ready_s=float(given["ready_s"]),
        steady_s=float(given["steady_s"]),
        progress_s=float(given["progress_s"]),
        restarts_max=int(given["restarts_max"]),
    )


def main(arguments: Sequence[str]) -> int:
    """Note, or watch."""
    # A name that this terminal cannot show ends nothing.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    what, sockets, *words = arguments
    paths = sockets.splitlines()
    done = (
        note(paths) if what == "note" else Watch(settings(words, paths), sleep_while_wanted).does_its_work()
    )
    return int(not done)


PARENT = os.getppid()

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
