"""Storage of a network is known by the mount that a path is on."""

from pathlib import Path

import pytest

from swe_aem.core import filesystem
from swe_aem.core.filesystem import network_filesystem


def test_a_file_system_is_named_if_a_network_is_below_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert network_filesystem(Path("/proc")) is None
    monkeypatch.setattr(filesystem, "_NETWORK", frozenset({"proc"}))
    assert network_filesystem(Path("/proc/self")) == "proc"
    assert network_filesystem(Path("/dev")) is None
    assert network_filesystem(Path("/no/such/place")) is None
