"""Model directories with stand-in tokenizers, and with chat templates that TRL ships."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from swe_aem.testing.tokenizers import write_stand_in


@pytest.fixture(scope="session")
def published() -> Callable[[str], str]:
    """The text of a published chat template, by the name under which TRL has it."""
    found = importlib.util.find_spec("trl")  # not imported: that takes seconds
    if found is None or found.origin is None:
        pytest.skip("needs the train extra")
    folder = Path(found.origin).parent / "chat_templates"
    return lambda name: (folder / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.fixture
def model_of(tmp_path: Path) -> Callable[..., Path]:
    """(family, template's text or None) to a directory with the family's stand-in tokenizer and that template."""

    def make(family: str, template: str | None = None) -> Path:
        directory = tmp_path / family
        write_stand_in(family, directory)
        if template is not None:
            (directory / "chat_template.jinja").write_text(template, encoding="utf-8")
        return directory

    return make
