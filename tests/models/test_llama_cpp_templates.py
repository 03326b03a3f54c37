"""Prompts beside published chat templates that no package installed here has: the copies in the sources of llama.cpp.

Nightly: the sources, of a fixed version and hash, are fetched from the package index. `LLAMA_CPP_SOURCES` may name a
copy of the archive, `llama_cpp_python-VERSION.tar.gz`.
"""

import hashlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from swe_aem.agent import RendererConfig, TurnRenderer
from swe_aem.models.chat_template import chat_template_of
from swe_aem.models.comparison import compare_first_prompts, compare_turns
from swe_aem.policy import load_tokenizer

VERSION = "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
COPIES = {
    "Qwen3-Coder": "qwen3-coder",
    "Qwen3.5-4B": "qwen3.5",
    "GLM-4.6": "glm-4.5",
    "GLM-4.7-Flash": "glm-5",
    "MiniMax-M2": "minimax-m2",
    "deepseek-ai-DeepSeek-V3.1": "deepseek-v3.1",
    "deepseek-ai-DeepSeek-V4": "deepseek-v4",
    "deepseek-ai-DeepSeek-V4-Flash-0731": "deepseek-v4",
    "Kimi-K2-Instruct": "kimi-k2",
}
"""Templates by the names of their files, and their families."""
COMPACT = ("tools | tojson", "tools | tojson(separators=(',', ':'))")
"""How Kimi's own template has written tools since that copy was made."""
WITHOUT_SYSTEM = (
    "first prompts without a system message begin with an empty line in the encoder that its makers publish"
)
DIFFERENT = {
    "deepseek-ai-DeepSeek-V4": {"without a system message": WITHOUT_SYSTEM},
    "deepseek-ai-DeepSeek-V4-Flash-0731": {"without a system message": WITHOUT_SYSTEM},
}
"""What differs on purpose, and why."""
BESIDE = {"with tools", "without a system message"}
"""Prompts of `deepseek-v3.1` that describe tools, where its template does not."""
pytestmark = pytest.mark.nightly


@pytest.fixture(scope="session")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the templates."""
    home = tmp_path_factory.mktemp("llama-cpp")
    archive = Path(os.environ.get("LLAMA_CPP_SOURCES") or _fetched(home))
    assert hashlib.sha256(archive.read_bytes()).hexdigest() == SHA256, f"{archive} is another archive"
    with tarfile.open(archive) as sources:
        wanted = [one for one in sources.getmembers() if "/vendor/llama.cpp/models/templates/" in one.name]
        sources.extractall(home, members=wanted, filter="data")
    return next(home.glob("*/vendor/llama.cpp/models/templates"))


def _fetched(home: Path) -> Path:
    uv = ["uv", "tool", "run", "--python", sys.executable, "pip"]
    named = [f"llama-cpp-python=={VERSION}", "--no-deps", "--no-binary", "llama-cpp-python"]
    subprocess.run([*uv, "download", "-q", *named, "--dest", str(home)], check=True)
    return home / f"llama_cpp_python-{VERSION}.tar.gz"


@pytest.mark.parametrize("thinking", ["keep", "as_template"])
@pytest.mark.parametrize("name", COPIES)
def test_prompts_are_those_of_the_published_template(
    name: str, thinking: str, copies: Path, model_of: Callable[..., Path]
) -> None:
    source = (copies / f"{name}.jinja").read_text(encoding="utf-8").replace(*COMPACT)
    directory = model_of(COPIES[name], source)
    (directory / "tokenizer_config.json").write_text('{"bos_token": "<｜begin▁of▁sentence｜>"}', encoding="utf-8")
    renderer = TurnRenderer(load_tokenizer(str(directory)), RendererConfig.model_validate({"thinking": thinking}))
    assert renderer.family == COPIES[name]
    template = chat_template_of(renderer.tokenizer)
    assert template is not None
    first = {found.name: found.difference for found in compare_first_prompts(renderer, template)}
    known = DIFFERENT.get(name, {}).keys() | (BESIDE if not renderer.template_has_tools else set())
    assert {name for name, difference in first.items() if difference} == known
    turns = compare_turns(renderer, template)
    assert not [found for found in turns if found.difference and not (found.in_response or found.refused)]
