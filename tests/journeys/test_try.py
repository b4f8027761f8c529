"""`outstation try`: what the pipelines make of recorded and stored data, without storing anything."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from agent.captures.format import Piece, encode_header, encode_piece
from agent.cli import main
from agent.composition import catalogue
from agent.composition.trial import open_trial
from agent.config import load_config
from agent.trial.inputs import Input, Item
from collectors.models import Reading
from tests.rigs import stored
from tests.rigs.configuration import counting_source, device, mqtt_source, serial_source
from tests.rigs.programs import COMMAND, AgentProgram, run_command

if TYPE_CHECKING:
    from pathlib import Path

STARTED = datetime(2026, 5, 1, 10, tzinfo=UTC)
PIPELINE = """
[[pipeline]]
name = "all"
"""


def step(processor: str, **options: Any) -> str:
    lines = [
        f'processor = "{processor}"',
        *(f"{key} = {json.dumps(value)}" for key, value in options.items()),
    ]
    return "\n".join(["[[pipeline.step]]", *lines, ""])


def configured(folder: Path, *steps: str, sources: str | None = None) -> Path:
    path = folder / "try.toml"
    path.write_text(device(sources or serial_source("/dev/ttyUSB0", "soil")) + PIPELINE + "\n".join(steps))
    return path


def captured(folder: Path, *lines: tuple[float, bytes], port: str = "/dev/ttyUSB0") -> Path:
    path = folder / "capture.jsonl"
    header = encode_header({"started": STARTED.isoformat(), "port": port})
    path.write_bytes(header + b"".join(encode_piece(Piece(t, data)) for t, data in lines))
    return path


def exported(folder: Path, *readings: Reading) -> Path:
    path = folder / "export.jsonl"
    lines = [
        {"device_id": "d", "seq": n, "document": r.to_document()} for n, r in enumerate(readings, start=1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def reading(t: float, source: str = "soil", /, **values: Any) -> Reading:
    return Reading(source=source, t=STARTED.timestamp() + t, values=values)


def tried(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[dict[str, Any]]:
    assert main(["try", "--json", *map(str, arguments)]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_capture_goes_through_framing_codec_and_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = configured(tmp_path, step("scale", metric="t", factor=2))
    capture = captured(tmp_path, (0.5, b'{"t": 1}\r\n{"t"'), (1.5, b": 2}\nnoise\n"))
    one, two, noise, summary = tried(capsys, capture, "-c", config)
    assert [step["step"] for step in one["passages"][0]["steps"]] == ["decode", "scale:t"]
    assert one["passages"][0]["steps"][0]["in"] == {"format": "json", "raw": '{"t": 1}'}
    assert one["passages"][0]["steps"][1]["in"][0]["values"] == {"t": 1}
    assert [document["values"] for document in one["stored"] + two["stored"]] == [{"t": 2}, {"t": 4}]
    assert two["stored"][0]["t"] == STARTED.timestamp() + 1.5
    assert [letter["stage"] for letter in noise["dead_letters"]] == ["decode"]
    assert summary["summary"]["stored"] == 2
    assert {path.name for path in tmp_path.iterdir()} == {"try.toml", "capture.jsonl"}


def test_what_is_no_frame_is_a_dead_letter_of_the_framing(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = configured(
        tmp_path, sources=serial_source("/dev/ttyUSB0", "soil", framing={"type": "lines", "max_frame": 8})
    )
    long, *_ = tried(capsys, captured(tmp_path, (0.1, b"123456789012\n")), "-c", config)
    assert long["passages"] == []
    assert "raise `max_frame`" in long["dead_letters"][0]["reason"]


def test_exported_readings_go_through_the_steps_after_the_codec(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = configured(tmp_path, step("deadband", metric="t", width=1.0))
    export = exported(
        tmp_path, reading(0, t=1.0), reading(1, "hall", t=1.0), reading(2, t=1.5), reading(3, t=3.0)
    )
    *outcomes, _ = tried(capsys, export, "-c", config, "--source", "soil")
    assert [len(outcome["stored"]) for outcome in outcomes] == [1, 0, 1]
    assert main(["try", str(export), "-c", str(config)]) == 0
    told = capsys.readouterr()
    assert "readings of hall, which is in no configuration, were left out" in told.err
    assert "1 deadband:t  left out" in told.out


def test_windows_end_when_their_time_has_passed_and_when_the_data_ends(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    config = configured(
        tmp_path, step("aggregate", every="10 s", on_error="drop"), step("scale", metric="t", factor=10)
    )
    readings = [reading(0, t=1.0), reading(5, t=3.0), reading(12, t=5.0), reading(4, t=9.0)]
    assert main(["try", str(exported(tmp_path, *readings)), "-c", str(config)]) == 0
    told = capsys.readouterr().out
    assert "gives t 2\n  2 scale:t        t 2 -> 20" in told
    assert "dropped: 8 s too late: its window of 10 s is closed" in told
    assert told.index("the input has ended") < told.index("t 5 -> 50")
    assert told.count("= stored") == 2


def test_alarms_tags_and_what_did_not_change_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = configured(
        tmp_path,
        step("alarm", metric="t", above=60.0),
        step("select", drop=["noise"]),
        '[[pipeline.step]]\nprocessor = "tag"\ntags = { a = "b" }\n',
    )
    capture = captured(tmp_path, (0.1, b'[{"t": 70, "noise": 1}, {"u": 1}]\n'))
    assert main(["try", str(capture), "-c", str(config)]) == 0
    told = capsys.readouterr().out
    assert "1 alarm:t  + tag alarm=raised, alarm lane\n             as it came\n" in told
    assert "2 select   - noise\n             as it came\n" in told
    assert "t 70  [a=b, alarm=raised]  alarm lane" in told
    assert "2 select   2 in, 2 out, 1 changed" in told
    assert "3 tag:a    2 in, 2 out, 2 changed" in told


def test_one_step_is_shown_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    config = configured(
        tmp_path, step("scale", metric="t", factor=2), step("stuck", metric="t", longer_than="1 h")
    )
    for wanted in ("1", "scale:t"):
        assert (
            main(["try", str(exported(tmp_path, reading(0, t=1))), "-c", str(config), "--step", wanted]) == 0
        )
        told = capsys.readouterr().out
        assert "  in   t 1\n  out  t 2\n" in told
        assert "stuck" not in told.partition("1 in:")[0]


@pytest.mark.parametrize(
    ("arguments", "said", "status"),
    [
        (["absent.jsonl"], "absent.jsonl: cannot be read: No such file", 1),
        (["try.toml"], "none of a capture", 1),
        (["capture.jsonl", "--source", "hall"], "hall is no serial source", 1),
        (["capture.jsonl", "--source", "sol"], "there are soil, boiler, hall", 2),
        (["other.jsonl"], "say by --source which serial source that is; there are soil, boiler", 1),
        (["capture.jsonl", "--since", "1 h"], "leave out the file", 2),
        (["capture.jsonl", "--step", "9"], "there is no step '9'; there are in all: 0 decode, 1 scale:t", 2),
        (["capture.jsonl", "--limit", "0"], "should be 1 or more", 2),
        ([], "there is no buffer in", 2),
        (["--since", "soon"], "'soon' is no time", 2),
        (["empty.jsonl"], "none of a capture", 1),
    ],
)
def test_what_cannot_be_tried_is_told(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    said: str,
    status: int,
):
    sources = [
        serial_source(f"/dev/{port}", name) for port, name in (("ttyUSB0", "soil"), ("ttyUSB1", "boiler"))
    ]
    configured(
        tmp_path, step("scale", metric="t"), sources="\n".join([*sources, mqtt_source("mqtt://broker")])
    )
    captured(tmp_path, (0.1, b"{}\n"), port="/dev/ttyACM7").rename(tmp_path / "other.jsonl")
    captured(tmp_path, (0.1, b"{}\n"))
    (tmp_path / "empty.jsonl").touch()
    monkeypatch.chdir(tmp_path)
    assert main(["try", "-c", "try.toml", *arguments]) == status
    assert said in capsys.readouterr().err


def test_damaged_lines_are_left_out_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    export = exported(tmp_path, reading(0, t=1), reading(1, t=2))
    export.write_text(export.read_text() + "{half\n" + '{"document": {"no": "reading"}}\n')
    assert main(["try", str(export), "-c", str(configured(tmp_path))]) == 0
    told = capsys.readouterr()
    assert "2 lines of" in told.err
    assert told.out.count("= stored") == 2


def test_an_endless_input_is_taken_one_by_one(tmp_path: Path):
    endless = (
        "import json, itertools\n"
        "for n in itertools.count():\n"
        '    print(json.dumps({"document": {"source": "soil", "t": float(n), "values": {"t": n}}}), flush=True)\n'
    )
    with subprocess.Popen(
        [sys.executable, "-c", endless], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as says:
        ended = subprocess.run(
            [*COMMAND, "try", "-", "-n", "100", "-c", configured(tmp_path)],
            stdin=says.stdout,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        says.kill()
    assert ended.returncode == 0, ended.stderr
    assert "100 in: 100 readings would be stored" in ended.stdout


async def test_what_waits_is_let_go_so_that_memory_stays_small(tmp_path: Path):
    path = configured(tmp_path, step("aggregate", every="10 s"))
    config = await asyncio.to_thread(load_config, path, catalogue())
    async with open_trial(config) as trial:
        for n in range(3000):
            await trial.take(Item(reading(n * 10.0, t=n), f"line {n}"))
        assert len(trial._processing._held._out) < 1000
        assert len(trial._processing._held._handed) < 3


async def test_a_file_is_not_read_ahead(tmp_path: Path):
    export = exported(tmp_path, *(reading(n, t=n) for n in range(10_000)))
    config = await asyncio.to_thread(load_config, configured(tmp_path), catalogue())
    with export.open("rb") as file:
        items = Input(file, config, None).items()
        next(items)
        assert file.tell() < export.stat().st_size / 10


async def test_the_readings_of_a_running_agent_are_tried_and_nothing_of_it_changes(tmp_path: Path):
    with AgentProgram(tmp_path, device(counting_source(50))) as agent:
        agent.start()
        await agent.until(lambda r: r.buffer.stored > 20, "readings")
        new = tmp_path / "new.toml"
        new.write_text(device(counting_source(50)) + PIPELINE + step("scale", metric="n", factor=-1))
        ended = await asyncio.to_thread(
            run_command, "try", "--since", "1 h", "--source", "counter", "--limit", "20", "--json", "-c", new
        )
        assert ended.returncode == 0, ended.stderr
        *outcomes, summary = map(json.loads, ended.stdout.splitlines())
        assert [outcome["stored"][0]["values"]["n"] for outcome in outcomes] == [-n for n in range(20)]
        assert summary["summary"]["items"] == 20
        assert (await agent.stop())[0] == 0
    kept = stored.documents(agent.buffer).values()
    assert all(document["values"]["n"] >= 0 for document in kept)
    assert stored.documents(agent.buffer, "dead_letters") == {}
