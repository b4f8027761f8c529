import pytest

from tests.install.checkout import Checkout, make_checkout


@pytest.fixture
def checkout(tmp_path) -> Checkout:
    return make_checkout(tmp_path)
