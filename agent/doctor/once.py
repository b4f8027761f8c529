"""One fault, one finding: what was found for several is told once, and what only follows is no problem of its own.

Pure: findings in, findings out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agent.doctor.rounds import Report
from drivers.examination import Level, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from drivers.examination import Finding

NETWORK: Final = "network"
"""The check that looks for the way to another end."""
_FOLLOWS: Final = "not tried further: see what is said about the network"

_Same = tuple[str, Level, str, str | None]


def told_once(reports: Sequence[Report]) -> list[Report]:
    """The same findings, each once, in their order; `subject` names all that it is about."""
    dead = _without_way(reports)
    reports = [
        Report(report.check, [_judged(report.check, finding, dead) for finding in report.findings])
        for report in reports
    ]
    subjects: defaultdict[_Same, dict[str, None]] = defaultdict(dict)
    for report in reports:
        for finding in report.findings:
            subjects[_same(report, finding)][finding.subject] = None
    told = []
    for report in reports:
        findings = []
        for finding in report.findings:
            about = subjects.pop(_same(report, finding), None)
            if about is not None:
                findings.append(replace(finding, subject=", ".join(about)))
        told.append(Report(report.check, findings))
    return told


def _same(report: Report, finding: Finding) -> _Same:
    return report.check, finding.level, finding.what, finding.remedy


def _judged(check: str, finding: Finding, dead: Collection[str]) -> Finding:
    is_told = check != NETWORK and finding.is_unreachable and finding.subject in dead
    return unknown(finding.subject, _FOLLOWS) if is_told else finding


def _without_way(reports: Iterable[Report]) -> set[str]:
    """The subjects of which no server can be reached, as all of their network's checks found."""
    reached: defaultdict[str, bool] = defaultdict(bool)
    for report in reports:
        if report.check == NETWORK:
            fails = any(finding.is_unreachable for finding in report.findings)
            for finding in report.findings:
                reached[finding.subject] |= not fails
    return {subject for subject, is_reached in reached.items() if not is_reached}
