import io
import logging

import pytest

from agent import logs


@pytest.fixture(autouse=True)
def _put_back():
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for package in ("agent", "buffer", "drivers"):
        logging.getLogger(package).setLevel(logging.NOTSET)


def test_lines_for_people(monkeypatch):
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    stream = io.StringIO()
    logs.configure("info", stream)
    logging.getLogger("agent.x").warning("source %s: port is gone", "soil")
    logging.getLogger("agent.x").debug("not this")
    assert stream.getvalue().endswith("WARNING  source soil: port is gone\n")
    assert stream.getvalue().count("\n") == 1


def test_fields_under_systemd_stay_on_one_line(monkeypatch):
    monkeypatch.setenv("JOURNAL_STREAM", "8:1234")
    stream = io.StringIO()
    logs.configure("info", stream)
    logging.getLogger("agent.x").error('a "quoted"\nthing', extra={"fields": {"source": "soil"}})
    assert stream.getvalue() == '<3>logger=agent.x message="a \\"quoted\\"\\nthing" source=soil\n'
    try:
        raise ValueError("bad")
    except ValueError:
        logging.getLogger("agent.x").exception("failed")
    assert stream.getvalue().count("\n") == 2


def test_others_are_heard_from_warning_up(monkeypatch):
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    stream = io.StringIO()
    logs.configure("debug", stream)
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("drivers.serial").debug("open")
    assert "GET" not in stream.getvalue()
    assert "open" in stream.getvalue()
