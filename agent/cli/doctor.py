"""`outstation doctor`: looks at everything that the agent needs, and says what to do about what is wrong."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from agent.cli.exit_status import DONE, FAILED
from agent.composition.doctor import look
from agent.version import version
from drivers.examination import Level

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from agent.doctor.rounds import Report

_SHOWN = {Level.OK: "ok", Level.WARNING: "WARNING", Level.PROBLEM: "PROBLEM", Level.UNKNOWN: "?"}


def main(arguments: argparse.Namespace) -> int:
    """Look, and tell; 1 when there is a problem."""
    reports = asyncio.run(look(arguments.config, deep=arguments.deep))
    counts = counts_of(reports)
    if arguments.json:
        print(json.dumps(document(reports), indent=2))
    else:
        print("\n".join(_lines(reports, counts)))
    return FAILED if counts[Level.PROBLEM] else DONE


def counts_of(reports: Sequence[Report]) -> Counter[Level]:
    """How many findings there are of each level."""
    return Counter(finding.level for report in reports for finding in report.findings)


def document(reports: Sequence[Report]) -> dict[str, Any]:
    """The findings as JSON."""
    return {
        "version": version(),
        "counts": {level.value: counts_of(reports)[level] for level in Level},
        "findings": [
            {
                "check": report.check,
                "subject": finding.subject,
                "level": finding.level.value,
                "what": finding.what,
                "remedy": finding.remedy,
            }
            for report in reports
            for finding in report.findings
        ],
    }


def _lines(reports: Sequence[Report], counts: Counter[Level]) -> Iterator[str]:
    for report in reports:
        for finding in report.findings:
            about = report.check if finding.subject == report.check else f"{report.check} {finding.subject}"
            yield f"{_SHOWN[finding.level]:<8} {about:<24} {finding.what}"
            if finding.remedy is not None:
                yield f"{'':<8} {'':<24} -> {finding.remedy}"
    yield ""
    words = {
        Level.PROBLEM: ("problem", "problems"),
        Level.WARNING: ("warning", "warnings"),
        Level.OK: ("ok", "ok"),
        Level.UNKNOWN: ("not looked at", "not looked at"),
    }
    told = (f"{counts[level]} {one if counts[level] == 1 else many}" for level, (one, many) in words.items())
    yield ", ".join(told)
