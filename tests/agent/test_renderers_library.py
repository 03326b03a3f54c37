"""The library of chat formats is imported without a client that nothing calls, and the client can be imported after."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(code: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


POLICY = Path(__file__).parents[2] / "configs" / "quickstart" / "policy"
RENDERER = (
    "from swe_aem.agent import TurnRenderer; from swe_aem.policy import load_tokenizer\n"
    f"TurnRenderer(load_tokenizer({str(POLICY)!r}))\n"
)
HOST = "(api_key='x').base_url.host)"


def test_a_renderer_needs_no_client_and_leaves_none_behind() -> None:
    assert run(f"{RENDERER}import sys; print('renderers' in sys.modules, 'openai' in sys.modules)") == "True False\n"


def test_the_client_can_be_imported_afterwards() -> None:
    pytest.importorskip("openai")
    assert run(f"{RENDERER}import openai; print(openai.AsyncOpenAI{HOST}") == "api.openai.com\n"


def test_a_thread_that_asks_for_the_client_meanwhile_gets_the_real_one_which_stays() -> None:
    pytest.importorskip("openai")
    code = (
        "import sys; import swe_aem.agent.renderers_library as library\n"
        "sys.modules['openai'] = library._StandIn('openai')\n"
        f"from openai import OpenAI; print(OpenAI{HOST}\n"
        "library.import_renderers(); print(sys.modules['openai'].OpenAI is OpenAI)"
    )
    assert run(code) == "api.openai.com\nTrue\n"
