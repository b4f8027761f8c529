"""The ready configurations, on what the devices say by their published documentation.

- Zigbee2MQTT: zigbee2mqtt.io, "MQTT Topics and Messages", and the messages in Zigbee2MQTT's own tests.
- Tasmota: tasmota.github.io/docs, the pages DS18x20, BME280, ADC, DeepSleep and Teleinfo; the two-channel meter as captured from a
  Sonoff Dual Meter.
- ESPHome: esphome.io, "MQTT Client Component" (default topics PREFIX/COMPONENT_TYPE/COMPONENT_NAME/state, retained).
"""

import asyncio

import pytest

from agent.composition import catalogue, create_source
from agent.composition.parts import find_codec
from agent.config import ConfigurationError, load_config
from agent.processors.decode import Decode
from collectors.clock import SystemClock
from drivers.mqtt.presets import PRESETS
from drivers.transport.mqtt import MqttConnection, options_from_url
from tests.rigs.mosquitto import Mosquitto
from tests.rigs.programs import run_command

CONFIG = '[device]\nid = "pi"\n[[source]]\nid = "house"\ndriver = "mqtt"\nurl = "{url}"\npreset = "{preset}"\n{more}\n'

MESSAGES = {
    "zigbee2mqtt": [
        (
            "zigbee2mqtt/attic",
            b'{\n  "temperature": 27.34,\n  "humidity": 44.72\n}',
            {"temperature": 27.34, "humidity": 44.72},
            {"device": "attic"},
        ),
        ("zigbee2mqtt/button", b'{"action": "single"}', {"action": "single"}, {"device": "button"}),
        ("zigbee2mqtt/hall", b'{"occupancy": true}', {"occupancy": True}, {"device": "hall"}),
        (
            "zigbee2mqtt/0x90fd9ffffe6494fc",
            b'{"state":"ON","brightness":215,"color_temp":325,"color":{"x":0.123,"y":0.123}}',
            {"state": "ON", "brightness": 215, "color_temp": 325, "color.x": 0.123, "color.y": 0.123},
            {"device": "0x90fd9ffffe6494fc"},
        ),
        (
            "zigbee2mqtt/weather_sensor",
            b'{"battery":91,"voltage":2985,"temperature":23.5,"humidity":46.08,"pressure":915.5,"linkquality":10}',
            {
                "battery": 91,
                "voltage": 2985,
                "temperature": 23.5,
                "humidity": 46.08,
                "pressure": 915.5,
                "linkquality": 10,
            },
            {"device": "weather_sensor"},
        ),
        ("zigbee2mqtt/bulb", b'{"update_available":false,"update":{"state":"idle"}}', None, {}),
    ],
    "tasmota": [
        (
            "tele/cellar/SENSOR",
            b'{"Time":"2019-01-01T00:00:00","DS18B20":{"Temperature":49.7},"TempUnit":"C"}',
            {"DS18B20.Temperature": 49.7, "TempUnit": "C"},
            {"device": "cellar"},
        ),
        (
            "tele/tasmota/SENSOR",
            (
                b'{"Time":"2019-11-03T19:34:28","BME280":{"Temperature":21.7,"Humidity":66.6,"Pressure":988.6},'
                b'"PressureUnit":"hPa","TempUnit":"C"}'
            ),
            {
                "BME280.Temperature": 21.7,
                "BME280.Humidity": 66.6,
                "BME280.Pressure": 988.6,
                "PressureUnit": "hPa",
                "TempUnit": "C",
            },
            {"device": "tasmota"},
        ),
        (
            "tele/meter/SENSOR",
            (
                b'{"Time":"2021-03-13T09:20:26","ENERGY":{"TotalStartTime":"2021-03-13T09:20:26","Total":7970.903,'
                b'"Yesterday":3.198,"Today":6.024,"Period":63,"Power":860,"Current":4.000}}'
            ),
            {
                "ENERGY.Total": 7970.903,
                "ENERGY.Yesterday": 3.198,
                "ENERGY.Today": 6.024,
                "ENERGY.Period": 63,
                "ENERGY.Power": 860,
                "ENERGY.Current": 4.0,
            },
            {"device": "meter"},
        ),
        (
            "tele/dual/SENSOR",
            b'{"Time":"2026-09-18T11:19:21","ENERGY":{"TotalStartTime":"2026-09-16T00:00:00","Power":[52,5],"Voltage":235}}',
            {"ENERGY.Power.0": 52, "ENERGY.Power.1": 5, "ENERGY.Voltage": 235},
            {"device": "dual"},
        ),
        ("tele/relay/SENSOR", b'{"Time":"2019-09-04T13:08:48"}', None, {}),
    ],
    "esphome": [
        ("livingroom/sensor/temperature/state", b"21.5", {"temperature": 21.5}, {"device": "livingroom"}),
        ("livingroom/binary_sensor/door/state", b"ON", {"door": True}, {"device": "livingroom"}),
        ("garden/sensor/uptime/state", b"12", {"uptime": 12}, {"device": "garden"}),
    ],
}
NOT_TAKEN = {
    "zigbee2mqtt": [("zigbee2mqtt/bridge/state", b"online"), ("zigbee2mqtt/attic/availability", b"online")],
    "tasmota": [("tele/cellar/LWT", b"Online"), ("stat/cellar/RESULT", b'{"POWER":"ON"}')],
    "esphome": [("livingroom/status", b"online"), ("livingroom/debug", b"[I] booted")],
}


def config_of(tmp_path, preset, url="mqtt://localhost", more=""):
    file = tmp_path / "outstation.toml"
    file.write_text(CONFIG.format(url=url, preset=preset, more=more))
    return load_config(file, catalogue())


@pytest.mark.parametrize("preset", PRESETS)
async def test_what_the_devices_say_becomes_readings(preset, tmp_path):
    with Mosquitto() as broker:
        config = await asyncio.to_thread(config_of, tmp_path, preset, broker.url)
        source = create_source(config, config.source[0], SystemClock())
        await source.connect()
        async with MqttConnection(options_from_url(broker.url)) as devices:
            for topic, payload in NOT_TAKEN[preset]:
                await devices.publish(topic, payload)
            for topic, payload, *_ in MESSAGES[preset]:
                await devices.publish(topic, payload)
        decode = Decode(find_codec(config))
        for topic, _payload, values, tags in MESSAGES[preset]:
            result = await decode.process(await source.collect())
            assert result.success, result.error
            if values is None:
                assert result.processed_data == []
                continue
            [reading] = result.processed_data
            assert (reading.values, reading.tags) == (values, {"topic": topic, **tags})
        await source.disconnect()


def test_times_that_the_devices_say(tmp_path):
    for preset, payload, t in (
        ("zigbee2mqtt", b'{"temperature":1,"last_seen":"2021-10-31T19:04:09+00:00"}', 1635707049.0),
        ("zigbee2mqtt", b'{"temperature":1,"last_seen":1635707049000}', 1635707049.0),
        ("tasmota", b'{"Time":"2019-09-04T13:08:48","Epoch":1567595328,"ANALOG":{"A0":8}}', 1567595328.0),
    ):
        (decoded,) = config_of(tmp_path, preset).source[0].codec.codec()(payload)
        assert decoded.t == t
        assert len(decoded.values) == 1


def test_a_preset_only_fills_in_what_is_not_given(tmp_path):
    (source,) = config_of(
        tmp_path, "tasmota", more='topics = ["home/{device}/tele/SENSOR"]\ncodec = "json"'
    ).source
    assert source.options.topics == ["home/{device}/tele/SENSOR"]
    assert source.codec.lists == "refuse"
    (source,) = config_of(tmp_path, "esphome", more='retained = "store"').source
    assert source.options.retained == "store"
    assert source.codec.type == "plain"


def test_a_preset_that_there_is_not_is_told(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"source\[0\]\.preset: should be 'zigbee2mqtt', 'tasmota' or 'esphome'"
    ):
        config_of(tmp_path, "tasmotta")


async def test_read_prints_values_by_the_names_of_their_topics(tmp_path):
    with Mosquitto() as broker:
        await asyncio.to_thread(config_of, tmp_path, "esphome", broker.url)
        reading = asyncio.create_task(
            asyncio.to_thread(
                run_command, "read", "house", "-n", "1", "--config", tmp_path / "outstation.toml"
            )
        )
        async with MqttConnection(options_from_url(broker.url)) as devices:
            while not reading.done():
                await devices.publish("hall/sensor/temperature/state", b"21.5")
                await asyncio.sleep(0.05)
    assert '{"temperature": 21.5}' in reading.result().stdout
