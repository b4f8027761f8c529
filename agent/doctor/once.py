"""One fault, one finding: what was found for several is told once, and what only follows is no problem of its own.

Pure: findings in, findings out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from agent.doctor.rounds import Report
from drivers.examination import Fault, Level, unknown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from drivers.examination import Finding

CONFIGURATION: Final = "configuration"
"""The check that looks for secrets."""
NETWORK: Final = "network"
"""The check that looks for the way to another end."""
_CHECK_OF: Final = {Fault.UNREACHABLE: NETWORK, Fault.UNREADABLE: CONFIGURATION}

_Same = tuple[str, Level, str, str | None]


def told_once(reports: Sequence[Report]) -> list[Report]:
    """The same findings, each once, in their order; `subject` names all that it is about."""
    told_of = {
        Fault.UNREACHABLE: _without_way(reports),
        Fault.UNREADABLE: _about_all(reports) if _is_wrong(reports) else set(),
    }
    reports = [
        Report(report.check, [_judged(report.check, finding, told_of) for finding in report.findings])
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


def _judged(check: str, finding: Finding, told_of: Mapping[Fault, Collection[str]]) -> Finding:
    if finding.fault is None or check == _CHECK_OF[finding.fault]:
        return finding
    if finding.subject not in told_of[finding.fault]:
        return finding
    return unknown(
        finding.subject, f"not tried further: see what is said about the {_CHECK_OF[finding.fault]}"
    )


def _is_wrong(reports: Iterable[Report]) -> bool:
    found = (finding for report in reports if report.check == CONFIGURATION for finding in report.findings)
    return any(finding.level is Level.PROBLEM for finding in found)


def _about_all(reports: Iterable[Report]) -> set[str]:
    return {finding.subject for report in reports for finding in report.findings}


def _without_way(reports: Iterable[Report]) -> set[str]:
    """The subjects of which no server can be reached, as all of their network's checks found."""
    reached: defaultdict[str, bool] = defaultdict(bool)
    for report in reports:
        if report.check == NETWORK:
            fails = any(finding.fault is Fault.UNREACHABLE for finding in report.findings)
            for finding in report.findings:
                reached[finding.subject] |= not fails
    return {subject for subject, is_reached in reached.items() if not is_reached}
