import os
import subprocess
import time

import pytest

from agent.timekeeping import Synchronisation, probe
from agent.timekeeping.synchronisation import (
    ERROR_MAX_S,
    ask_flag,
    ask_kernel,
    ask_timedated,
    clock_ran_on_battery,
    time_is_kept,
)


def test_this_machine_can_be_asked():
    said = probe()
    assert said.by
    assert said.error_s is None or said.error_s >= 0
    assert ask_kernel() is not None, "no sandbox here"


def test_where_the_kernel_may_not_be_asked_timesyncds_flag_tells(monkeypatch, tmp_path):
    monkeypatch.setattr("agent.timekeeping.synchronisation.ask_kernel", lambda: None)
    flag = tmp_path / "synchronized"
    flag.touch()
    said = probe(flag)
    assert said.by == "systemd-timesyncd"
    assert said.good
    assert said.error_s < 0.2
    an_hour_ago = time.time() - 3600
    os.utime(flag, (an_hour_ago, an_hour_ago))
    assert ask_flag(flag).error_s == pytest.approx(1.9, abs=0.01)
    assert ask_flag(flag).good
    os.utime(flag, (an_hour_ago - 3600, an_hour_ago - 3600))
    assert not ask_flag(flag).good, "it was synchronised too long ago"


def test_without_a_flag_timedated_is_asked(monkeypatch, tmp_path):
    monkeypatch.setattr("agent.timekeeping.synchronisation.ask_kernel", lambda: None)
    monkeypatch.setattr(
        "agent.timekeeping.synchronisation.ask_timedated", lambda: Synchronisation("systemd-timedated", 1.0)
    )
    assert probe(tmp_path / "no-flag").by == "systemd-timedated"


@pytest.mark.parametrize(("answer", "error_s"), [("yes", 1.0), ("no", None), ("", None)])
def test_what_timedated_answers(monkeypatch, tmp_path, answer, error_s):
    script = tmp_path / "timedatectl"
    script.write_text(f'#!/bin/sh\n[ "$*" = "show --property=NTPSynchronized --value" ] && echo {answer}\n')
    script.chmod(0o755)
    monkeypatch.setattr("agent.timekeeping.synchronisation._TIMEDATECTL", str(script))
    assert ask_timedated().error_s == error_s


def test_a_machine_without_timedated_is_not_synchronised(monkeypatch):
    monkeypatch.setattr("agent.timekeeping.synchronisation._TIMEDATECTL", "/no/such/program")
    assert ask_timedated() == Synchronisation("nobody", None)


def test_a_timedated_that_hangs_is_given_up(monkeypatch):
    def hangs(*_, **options):
        raise subprocess.TimeoutExpired("timedatectl", options["timeout"])

    monkeypatch.setattr(subprocess, "run", hangs)
    assert not ask_timedated().good


@pytest.mark.parametrize(("hctosys", "ran"), [("1\n", True), ("0\n", False), (None, False), ("\xff", False)])
def test_a_clock_on_a_battery_is_known(tmp_path, hctosys, ran):
    if hctosys is not None:
        (tmp_path / "rtc0").mkdir()
        (tmp_path / "rtc0" / "hctosys").write_text(hctosys, "latin-1")
    assert clock_ran_on_battery(tmp_path) is ran


def test_a_bound_that_grew_too_large_is_no_synchronisation():
    assert Synchronisation("kernel", ERROR_MAX_S).good
    assert not Synchronisation("kernel", ERROR_MAX_S + 0.001).good
    assert not Synchronisation("kernel", None).good


def test_who_keeps_the_time_is_seen_by_what_it_leaves(tmp_path):
    assert not time_is_kept((tmp_path / "chrony", tmp_path / "timesync"))
    (tmp_path / "timesync").mkdir()
    assert time_is_kept((tmp_path / "chrony", tmp_path / "timesync"))
