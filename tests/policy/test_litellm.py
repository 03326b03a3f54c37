"""A policy that litellm reaches, against a chat API of this process."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from swe_aem.core import SamplingParams
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import ContextOverflow, RunRefused
from swe_aem.policy.chat_config import LitellmConfig
from swe_aem.policy.litellm import open_litellm
from tests.policy.chat_api import answer, serving

PARAMS = SamplingParams(max_tokens=100)
ASK = [{"role": "user", "content": "Fix it."}]
KEY = "sk-litellm-0123456789"


class _Error(Exception):
    def __init__(self, message: str, status_code: int, **headers: str) -> None:
        super().__init__(message)
        self.status_code, self.response = status_code, SimpleNamespace(headers=headers)


class Stub(ModuleType):
    """What is used of litellm, without the seconds that its import takes."""

    Timeout = type("Timeout", (_Error,), {})
    APIConnectionError = type("APIConnectionError", (_Error,), {})
    BadRequestError = type("BadRequestError", (_Error,), {})
    ContextWindowExceededError = type("ContextWindowExceededError", (BadRequestError,), {})

    def __init__(self) -> None:
        super().__init__("litellm")
        self.script: list[Any] = []
        self.asked: list[dict[str, Any]] = []

    def get_llm_provider(self, model: str) -> None:
        if "/" not in model:
            raise self.BadRequestError("LLM Provider NOT provided. Pass model as E.g. ...", 400)

    async def acompletion(self, **asked: Any) -> Any:
        self.asked.append(asked)
        entry = self.script[min(len(self.asked), len(self.script)) - 1]
        if isinstance(entry, Exception):
            raise entry
        return SimpleNamespace(model_dump=lambda: entry, _hidden_params={"response_cost": 0.5})


@pytest.fixture
def litellm(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setitem(sys.modules, "litellm", stub)
    return stub


TOOL = {"type": "function", "function": {"name": "bash", "parameters": {"type": "object", "properties": {}}}}


async def ask(**settings: Any) -> Any:
    config = LitellmConfig.model_validate({"model": "anthropic/m", "backoff_s": 0.001} | settings)
    async with open_litellm(config) as policy:
        return await policy.chat(ASK, [TOOL], PARAMS, trajectory_id="t.0")


async def test_answers_have_the_cost_that_litellm_knows(litellm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    litellm.script = [answer("Hello.")]
    completion = await ask(api_key_env="MY_KEY", extra_body={"api_base": "http://x"})
    assert (completion.message["content"], completion.usage.cost_usd) == ("Hello.", 0.5)
    (asked,) = litellm.asked
    assert (asked["model"], asked["api_key"], asked["api_base"]) == ("anthropic/m", KEY, "http://x")
    assert asked["num_retries"] == 0, "retries are ours"


async def test_its_exceptions_are_those_of_a_chat_api(litellm: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    litellm.script = [_Error("slow down", 429, **{"Retry-After": "0"}), _Error("boom", 500), answer()]
    assert (await ask(attempts=2)).usage.prompt_tokens == 100
    for raised, expected, said in [
        (Stub.ContextWindowExceededError("too much", 400), ContextOverflow, "too much"),
        (_Error(f"bad {KEY}", 401), RunRefused, r"refuses the key \(401: bad \*\*\*\)"),
        (Stub.Timeout("late", 408), PolicyError, "late"),
        (Stub.APIConnectionError("gone", 500), PolicyError, "gone"),
        (RuntimeError("a bug of its own"), PolicyError, "a bug of its own"),
    ]:
        litellm.script = [raised]
        with pytest.raises(expected, match=said):
            await ask(attempts=1)


async def test_a_model_without_a_provider_is_told_when_the_policy_opens(litellm: Stub) -> None:
    with pytest.raises(RunRefused, match=r"litellm:PROVIDER/MODEL"):
        await ask(model="gpt")


async def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(UserError, match="uv sync --extra litellm"):
        await ask()


@pytest.mark.slow
async def test_litellm_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    async with serving() as api:
        api.script = [
            (429, {"error": {"message": "slow"}}, {"Retry-After": "0"}),
            answer("Hello.", reasoning_content="Hm."),
        ]
        settings = {"model": "openai/gpt-x", "api_key_env": "MY_KEY", "extra_body": {"api_base": api.url}}
        completion = await ask(**settings)
        assert completion.message["content"] == "Hello."
        assert completion.message["reasoning_content"] == "Hm."
        assert completion.usage.prompt_tokens == 100
        assert api.headers[-1]["Authorization"] == f"Bearer {KEY}"
        api.script = [(401, {"error": {"message": f"bad {KEY}"}})]
        with pytest.raises(RunRefused, match="MY_KEY") as caught:
            await ask(**settings)
        assert KEY not in str(caught.value)
        api.script = [(400, {"error": {"message": "too long", "code": "context_length_exceeded"}})]
        with pytest.raises(ContextOverflow):
            await ask(**settings)
    with pytest.raises(RunRefused, match="PROVIDER/MODEL"):
        await ask(model="no-such-model-anywhere")
