"""The drivers by name, and what they cost those who do not use them."""

import subprocess
import sys

import pytest
from pydantic import BaseModel

from collectors.clock import SystemClock
from collectors.interfaces import IDataSource
from drivers.registry import DRIVERS, driver, load_config_class, load_source_class

LIBRARIES = {"serial", "serial_asyncio_fast", "aiomqtt", "paho", "bleak", "dbus_fast"}


def imported_by(code: str) -> set[str]:
    script = f"import sys\n{code}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=50
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("name", sorted(DRIVERS))
def test_checking_a_configuration_imports_no_library_of_the_driver(name):
    modules = imported_by(f"from drivers.registry import load_config_class; load_config_class({name!r})")
    assert not modules & LIBRARIES


def test_one_driver_does_not_import_the_libraries_of_another():
    modules = imported_by("from drivers.registry import load_source_class; load_source_class('serial')")
    assert modules & LIBRARIES == {"serial", "serial_asyncio_fast"}


def test_every_driver_has_its_parts():
    for name, entry in DRIVERS.items():
        assert issubclass(load_config_class(name), BaseModel)
        assert issubclass(load_source_class(name), IDataSource)
        assert entry.summary


def test_every_source_is_made_in_the_same_way():
    config = load_config_class("simulated")()
    source = load_source_class("simulated")("x", config, data_format="json", clock=SystemClock())
    assert source.get_source_id() == "x"


def test_a_misspelt_driver_is_named_together_with_those_there_are():
    with pytest.raises(
        ValueError,
        match="no driver is named 'seriall': did you mean 'serial'\\? there are ble, gatt, mqtt, serial",
    ):
        driver("seriall")
    with pytest.raises(ValueError, match="no driver is named 'zigbee': there are"):
        load_config_class("zigbee")
