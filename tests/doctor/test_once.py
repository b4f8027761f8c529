"""One fault is one finding, however many sources and upstreams suffer from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.doctor.once import told_once
from agent.doctor.rounds import Report
from drivers.examination import Level, ok, problem, unreachable, unreadable, warning

if TYPE_CHECKING:
    from collections.abc import Sequence

NO_ONE = "h:1883: Connection refused", "is it running?"


def lines(reports: Sequence[Report]) -> list[tuple[str, str, Level, str]]:
    return [(r.check, f.subject, f.level, f.what) for r in reports for f in r.findings]


def test_what_is_found_for_several_is_told_once_where_it_was_found_first():
    reports = [
        Report("network", [ok("a", "answers")]),
        Report("source", [ok("a", "logged in"), warning("a", "keeps little", "more")]),
        Report("network", [ok("b", "answers"), problem("b", "expires", "renew")]),
        Report("source", [ok("b", "logged in"), warning("b", "keeps little", "more")]),
        Report("upstream", [warning("c", "keeps little", "more")]),
    ]
    assert lines(told_once(reports)) == [
        ("network", "a, b", Level.OK, "answers"),
        ("source", "a, b", Level.OK, "logged in"),
        ("source", "a, b", Level.WARNING, "keeps little"),
        ("network", "b", Level.PROBLEM, "expires"),
        ("upstream", "c", Level.WARNING, "keeps little"),
    ]


def test_the_same_remedy_and_level_are_part_of_a_finding():
    reports = [
        Report("network", [problem("a", "x", "one"), problem("b", "x", "two"), warning("c", "x", "two")])
    ]
    assert lines(told_once(reports)) == lines(reports)


def test_a_dead_broker_is_one_problem():
    reports = [
        Report("network", [unreachable("a", *NO_ONE)]),
        Report("source", [unreachable("a", "no answer", "see network"), warning("a", "old", "new")]),
        Report("network", [unreachable("b", *NO_ONE)]),
        Report("source", [unreachable("b", "no answer", "see network")]),
        Report("network", [unreachable("cloud", *NO_ONE)]),
        Report("upstream", [unreachable("cloud", "no way", "see network")]),
    ]
    assert lines(told_once(reports)) == [
        ("network", "a, b, cloud", Level.PROBLEM, NO_ONE[0]),
        ("source", "a, b", Level.UNKNOWN, "not tried further: see what is said about the network"),
        ("source", "a", Level.WARNING, "old"),
        ("upstream", "cloud", Level.UNKNOWN, "not tried further: see what is said about the network"),
    ]


def test_what_cannot_be_reached_though_the_network_answers_stays_a_problem():
    one_of_two = [
        Report("network", [unreachable("n", *NO_ONE)]),
        Report("network", [ok("n", "answers")]),
        Report("upstream", [unreachable("n", "no answer", "see network")]),
    ]
    assert lines(told_once(one_of_two)) == lines(one_of_two)
    alone = [Report("source", [unreachable("n", "no answer", "see network")])]
    assert lines(told_once(alone)) == lines(alone)
    expiring = [
        Report("network", [problem("n", "expires", "renew"), ok("n", "answers")]),
        Report("upstream", [unreachable("n", "no answer", "see network")]),
    ]
    assert lines(told_once(expiring)) == lines(expiring)


def test_a_secret_that_is_not_there_is_one_problem():
    reports = [
        Report("configuration", [problem("configuration", "there is no file x", "mend it")]),
        Report("upstream", [unreadable("cloud", "no password: there is no file x", "correct it")]),
    ]
    assert lines(told_once(reports)) == [
        ("configuration", "configuration", Level.PROBLEM, "there is no file x"),
        ("upstream", "cloud", Level.UNKNOWN, "not tried further: see what is said about the configuration"),
    ]
    untold = [Report("configuration", [ok("configuration", "fine")]), reports[1]]
    assert lines(told_once(untold)) == lines(untold)
