"""Libraries that only some parts of the package need."""

from collections.abc import Iterator
from contextlib import contextmanager

from swe_aem.errors import UserError


@contextmanager
def needs(extra: str, otherwise: str = "") -> Iterator[None]:
    """Imports that need an extra of the package: a missing library is a `UserError` that names the extra.

    `otherwise` says how to do without, e.g. "leave --out away".
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "swe_aem").startswith("swe_aem"):
            raise
        fix = f"install the extra with `uv sync --extra {extra}`"
        raise UserError(f"{error.name} is not installed: {fix}{f', or {otherwise}' if otherwise else ''}") from None
