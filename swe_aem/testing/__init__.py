"""Fakes for tests and benchmarks, and `SandboxConformance`, what every kind of sandbox must do."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swe_aem.testing.conformance import SandboxConformance

__all__ = ["SandboxConformance"]


def __getattr__(name: str) -> Any:
    if name != "SandboxConformance":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pytest

    pytest.register_assert_rewrite("swe_aem.testing.conformance")  # before its import: failures then show the values
    from swe_aem.testing.conformance import SandboxConformance

    return SandboxConformance
