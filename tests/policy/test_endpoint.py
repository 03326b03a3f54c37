"""A policy of this process behind a URL: what comes through it is what the policy samples."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from swe_aem.core import Completion, SamplingParams
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import ContextOverflow
from swe_aem.policy.completions import CompletionsConfig, CompletionsPolicy
from swe_aem.policy.endpoint import PolicyEndpoint
from tests.waiting import until


class Echo:
    """Samples its prompt, with a new version each time."""

    name = "echo"

    def __init__(self) -> None:
        self.asked: list[SamplingParams] = []
        self.cancelled = 0

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        self.asked.append(params)
        if prompt_ids[0] == 0:
            raise PolicyError("zero")
        if prompt_ids[0] == 1:
            raise ContextOverflow("1 prompt tokens fill the model's 1")
        if prompt_ids[0] == 2:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        logprobs = tuple(-1 / (3 + token) for token in prompt_ids)
        return Completion(
            token_ids=tuple(prompt_ids), logprobs=logprobs, finish_reason="length", version=len(self.asked)
        )

    async def close(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def asking(served: Echo, **changes: object) -> AsyncIterator[CompletionsPolicy]:
    async with PolicyEndpoint(served, max_model_tokens=100) as endpoint:
        config = CompletionsConfig(url=await endpoint.listen("127.0.0.1"), endpoint=True, **changes)  # type: ignore[arg-type]
        policy = CompletionsPolicy(config, key=endpoint.key)
        await policy.open()
        yield policy
        await policy.close()


async def test_tokens_logprobs_version_and_parameters_come_through_as_they_are() -> None:
    served = Echo()
    async with asking(served) as policy:
        assert policy.name == "echo"
        for version in (1, 2):
            params = SamplingParams(max_tokens=90, temperature=0.7, stop_token_ids=(9,), seed=2**40 + version)
            ids = (3, 50, 7)
            got = await policy.sample(ids, params, trajectory_id="t.0")
            assert got == Completion(
                token_ids=ids, logprobs=tuple(-1 / (3 + one) for one in ids), finish_reason="length", version=version
            )
            assert served.asked[-1] == params
        with pytest.raises(PolicyError, match="zero"):
            await policy.sample((0,), params, trajectory_id="t.0")
        with pytest.raises(ContextOverflow):
            await policy.sample((1,), params, trajectory_id="t.0")
        with pytest.raises(ContextOverflow, match="fill the model's 100"):
            await policy.sample((3,) * 100, params, trajectory_id="t.0")


async def test_a_request_whose_client_is_gone_is_not_sampled_to_its_end() -> None:
    served = Echo()
    async with asking(served) as policy:
        asked = asyncio.create_task(policy.sample((2,), SamplingParams(max_tokens=5), trajectory_id="t.0"))
        await until(lambda: served.asked)
        asked.cancel()
        await until(lambda: served.cancelled)


async def test_without_the_key_it_answers_nothing() -> None:
    async with PolicyEndpoint(Echo()) as endpoint:
        url = await endpoint.listen("127.0.0.1")
        assert await endpoint.listen("127.0.0.1") == url
        assert len(set(await asyncio.gather(*(endpoint.listen("127.0.0.2") for _ in range(2))))) == 1
        for key in (None, "other"):
            policy = CompletionsPolicy(CompletionsConfig(url=url, endpoint=True), key=key)
            with pytest.raises(UserError, match="401"):
                await policy.open()
            await policy.close()
        with pytest.raises(UserError, match=r"192\.0\.2\.1"):
            await endpoint.listen("192.0.2.1")
