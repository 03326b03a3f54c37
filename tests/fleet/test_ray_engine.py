"""What keeps this process from a Ray cluster is one line; a cluster itself is in tests/e2e/test_fleet.py."""

import pytest

from swe_aem.errors import ExtensionFailed, UserError
from swe_aem.fleet import engine_at
from swe_aem.fleet.messages import portable

pytest.importorskip("ray", reason="needs the cluster extra")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:port"])
async def test_where_no_cluster_is_the_error_says_how_to_start_one(address: str) -> None:
    with pytest.raises(UserError, match="ray start --head"):
        async with engine_at(address).open():
            pass


def test_ray_client_is_refused() -> None:
    with pytest.raises(UserError, match="Ray Client is not used here"):
        engine_at("ray://127.0.0.1:10001")


def test_errors_of_hosts_survive_the_way() -> None:
    class Odd(Exception):
        def __init__(self, one: int, two: int) -> None:
            super().__init__(f"{one} and {two}")

    assert str(portable(UserError("no image"))) == "no image"
    assert type(portable(UserError("no image"))) is UserError
    assert "1 and 2" in str(portable(Odd(1, 2)))
    assert portable(ExtensionFailed("the reward failed")).__notes__
