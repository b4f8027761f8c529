"""A buffer has one agent at a time, and what is copied to another machine does not share its identity."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from tests.rigs import cloud, other_machine, stored
from tests.rigs.configuration import DEVICE_ID, counting_source, device, upstream
from tests.rigs.programs import AgentProgram, free_port, receiver_program, run_command, until

OTHER_MACHINE = Path(other_machine.__file__)


def config_of(start: int, port: int) -> str:
    retry = {"first": "200 ms", "base": "200 ms", "cap": "500 ms"}
    return device(
        counting_source(100, start=start), upstream(f"http://127.0.0.1:{port}/readings", retry=retry)
    )


async def test_a_second_agent_on_the_same_buffer_ends_and_harms_nobody(tmp_path: Path):
    with AgentProgram(tmp_path, config_of(0, free_port())) as first:
        first.start()
        before = await first.until(lambda r: r.buffer.stored > 10, "the first runs")
        second = await asyncio.to_thread(run_command, "run", "--config", first.config_file)
        assert second.returncode == 1
        assert second.stderr.strip().count("\n") == 0, second.stderr
        assert str(first.buffer) in second.stderr
        assert "open in another process" in second.stderr
        after = await first.until(lambda r: r.buffer.stored > before.buffer.stored + 50, "it goes on")
        assert (after.pid, after.buffer.store_id) == (before.pid, before.buffer.store_id)
        assert (await first.stop())[0] == 0
    kept = [document["values"]["n"] for document in stored.documents(first.buffer).values()]
    assert kept == list(range(len(kept)))


async def test_a_copied_buffer_gets_an_identity_of_its_own_and_its_old_readings_keep_theirs(tmp_path: Path):
    port = free_port()
    home, clone = tmp_path / "home", tmp_path / "clone"
    home.mkdir()
    with AgentProgram(home, config_of(0, port)) as original:
        original.start()
        report = await original.until(lambda r: r.buffer.stored > 100, "readings that nobody takes yet")
        old_store = report.buffer.store_id
        assert (await original.stop())[0] == 0
        shutil.copytree(home, clone)
        shared = len(stored.documents(original.buffer))
        with (
            receiver_program(tmp_path, f"http://127.0.0.1:{port}") as receiver,
            AgentProgram(clone, config_of(1_000_000, port)) as copied,
        ):
            receiver.start()
            await until(lambda: "receiving from" in receiver.log, "the receiver is ready")
            copied.start(script=OTHER_MACHINE, script_arguments=("another",))
            report = await copied.until(lambda r: r.upstreams[0].delivered > shared + 50, "the copy delivers")
            new_store = report.buffer.store_id
            assert new_store != old_store
            assert (await copied.stop())[0] == 0
            original.config_file.write_text(config_of(2_000_000, port))
            original.start()  # at home, where it delivers the same old readings once more, and new ones
            report = await original.until(
                lambda r: r.upstreams[0].delivered > shared + 50, "the original too"
            )
            assert report.buffer.store_id == old_store
            assert (await original.stop())[0] == 0
            copied.start(script=OTHER_MACHINE, script_arguments=("another",))  # no further change
            report = await copied.until(lambda r: r.upstreams[0].delivered > 10, "the copy again")
            assert report.buffer.store_id == new_store
            assert (await copied.stop())[0] == 0
            assert (await receiver.stop())[0] == 0
    check(cloud.rows(tmp_path / "cloud.sqlite"), shared, old_store, new_store)


def check(arrived: list[cloud.Row], shared: int, old_store: str, new_store: str) -> None:
    """Each reading once: those from before the copy under the old identity, whoever brought them."""
    stores = {
        (0, old_store): [row for row in arrived if row.document["values"]["n"] < 1_000_000],
        (1_000_000, new_store): [row for row in arrived if row.document["values"]["n"] // 1_000_000 == 1],
        (2_000_000, old_store): [row for row in arrived if row.document["values"]["n"] >= 2_000_000],
    }
    assert len(stores[0, old_store]) == shared
    assert sum(map(len, stores.values())) == len(arrived)
    assert not cloud.disordered(arrived)
    for (start, store_id), rows in stores.items():
        assert {row.store_id for row in rows} == {store_id}
        assert {row.device_id for row in rows} == {DEVICE_ID}
        numbers = [row.document["values"]["n"] for row in rows]
        if start == 1_000_000:  # two lives of the copy, each of which counts anew
            second = numbers.index(start, 1)
            assert numbers[second:] == list(range(start, start + len(numbers) - second))
            numbers = numbers[:second]
        assert numbers == list(range(start, start + len(numbers)))
