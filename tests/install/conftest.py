import pytest

from tests.install.checkout import Checkout, make_checkout


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return make_checkout(tmp_path)


CUT_S = 400
"""A round of pulling the plug, on a busy machine."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """So many power cuts may take so long."""
    for item in items:
        if item.name == "test_the_plug_is_pulled":
            item.add_marker(pytest.mark.timeout((config.getoption("--power-cuts") + 1) * CUT_S))
