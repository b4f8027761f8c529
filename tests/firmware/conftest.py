"""The simulator and the firmware, built once a run."""

from pathlib import Path

import pytest

from tests.rigs.simulated_uno import build_firmware, build_simulator


@pytest.fixture(scope="session")
def simulator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_simulator(tmp_path_factory.mktemp("simulator"))


@pytest.fixture(scope="session")
def firmware_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("firmware")


@pytest.fixture(scope="session")
def json_firmware(firmware_folder: Path) -> Path:
    return build_firmware(firmware_folder, MODE="JSON", PERIOD_MS=20)


@pytest.fixture(scope="session")
def cobs_firmware(firmware_folder: Path) -> Path:
    return build_firmware(firmware_folder, PERIOD_MS=20)
