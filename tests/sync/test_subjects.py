"""Every device has subjects of its own, and is found again in them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.sync.subjects import ack_subject, batch_subject, device_of_subject, ledger_subject


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_device_is_one_token_and_found_again(device: str):
    for make, kind in ((batch_subject, "batch"), (ledger_subject, "ledger"), (ack_subject, "ack")):
        subject = make(device)
        assert re.fullmatch(rf"outstation\.[A-Za-z0-9_%-]+\.{kind}", subject)
        assert device_of_subject(subject) == device


@pytest.mark.parametrize("subject", ["", "outstation", "outstation..batch", "a.b.c", "outstation.a.b.c"])
def test_other_subjects_are_nobodys(subject: str):
    with pytest.raises(ValueError, match="not a subject of an Outstation"):
        device_of_subject(subject)
