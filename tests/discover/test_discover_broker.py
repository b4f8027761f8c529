"""What a broker does while it is listened to, and what comes of it."""

import asyncio

import pytest

from agent.cli import build_parser
from agent.cli import discover as command
from agent.composition import discovery
from agent.discover.look import look_around
from drivers.discovery import Finding
from drivers.mqtt.discover import Heard, MqttScout
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs.mosquitto import BrokerSettings, Mosquitto


async def stored(broker, topic, *payloads):
    """Retained, so that it is heard whenever one begins to listen."""
    async with MqttConnection(options_from_url(broker.url)) as publisher:
        for number, payload in enumerate(payloads):
            await publisher.publish(f"{topic}/{number}", payload, retain=True)


def look(broker, seconds=0.5, **options):
    return look_around([MqttScout(broker.url, **options)], seconds, lambda *_: None)


async def test_what_was_heard_before_the_broker_ended_is_proposed(monkeypatch):
    def hear_and_tell(self, *message):
        hear(self, *message)
        heard.set()

    heard, hear = asyncio.Event(), Heard.hear
    monkeypatch.setattr(Heard, "hear", hear_and_tell)
    with Mosquitto() as broker:
        await stored(broker, "sensors", b"21.5")
        looking = asyncio.create_task(look(broker, 30))
        async with asyncio.timeout(10):
            await heard.wait()
            broker.kill()
            proposed, loss = await looking
    assert proposed.source["topics"] == ["sensors/0"]
    assert "closed the connection" in loss.what


async def test_a_broker_that_shows_nothing_is_told_with_what_may_be_behind_it():
    with Mosquitto(BrokerSettings(acl="topic write sensors/#\n")) as broker:
        await stored(broker, "sensors", b"21.5")
        (finding,) = await look(broker)
    assert finding.source is None
    assert "do its rules (ACL) let an anonymous client read it?" in finding.what


def test_pictures_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr("drivers.mqtt.discover.HEARD_BYTES_MAX", 100_000)
    heard = Heard()
    for number in range(10):
        heard.hear(f"camera/{number}", bytes(60_000))
        heard.hear("sensor", b"1")
    assert {topic: len(payloads) for topic, payloads in heard.topics.items()} == {"camera/0": 1, "sensor": 5}


async def test_an_air_that_cannot_be_listened_to_is_told(monkeypatch):
    monkeypatch.setattr(discovery, "find_spec", lambda _: None)
    places = discovery.scouts(brokers=[], ports=[], adapter="hci0", username=None, password_file=None)
    (finding,) = await look_around(places, 0.1, lambda *_: None)
    assert "outstation[ble]" in finding.what


@pytest.mark.parametrize("words", ["exists", "not written"])
def test_a_file_that_cannot_be_written_after_the_look_costs_nothing_of_it(
    tmp_path, monkeypatch, capsys, words
):
    file = tmp_path / "folder" / "found.toml"
    file.parent.mkdir()

    async def meanwhile(*_):
        if words == "exists":
            await asyncio.to_thread(file.write_text, "another's")
        else:
            await asyncio.to_thread(file.parent.rmdir)
        return [Finding("one", {"id": "one", "driver": "simulated"})]

    monkeypatch.setattr(command, "look_around", meanwhile)
    status = command.main(build_parser().parse_args(["discover", "--write", str(file)]))
    said = capsys.readouterr()
    assert status == 1
    assert "[[source]]" in said.out
    assert words in said.err
    assert words != "exists" or file.read_text() == "another's"
