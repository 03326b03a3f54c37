"""A policy in this process: a Hugging Face model, with requests of concurrent agents sampled together (`sampler`).

It is for small models, tests and machines without a server. A served model is faster (`vllm`).
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from swe_aem.core import Completion, SamplingParams
from swe_aem.errors import UserError
from swe_aem.policy.errors import ContextOverflow


class TransformersPolicy:
    """Samples `model`, a Hugging Face causal language model, for any number of trajectories at once."""

    def __init__(self, model: Any, *, name: str, max_batch: int = 64, gather_s: float = 0.005) -> None:
        """`max_batch` bounds the requests sampled together; `gather_s` is how long the first request waits for
        others."""
        from swe_aem.policy.sampler import Sampler

        self.name = name
        self._sampler = Sampler(model, name, max_batch=max_batch, gather_s=gather_s)
        language = model.config.get_text_config()
        self.max_model_tokens = int(language.max_position_embeddings)
        """Tokens that prompt and response may have together."""
        self._vocabulary = int(language.vocab_size)

    @property
    def version(self) -> int:
        """Version of the weights that responses are sampled with."""
        return self._sampler.version

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        """Sample one response, as `core.Policy` says. Raises `ContextOverflow` if the prompt fills the model's
        context."""
        self._check(prompt_ids)
        return await asyncio.wrap_future(self._sampler.submit(prompt_ids, self._fitted(prompt_ids, params)))

    async def update(self, weights: Mapping[str, Any], version: int) -> None:
        """Load the weights of a state dict of the same model, which is read until this returns. Earlier requests are
        finished with the old weights."""
        await asyncio.wrap_future(self._sampler.update(weights, version))

    async def close(self) -> None:
        """End the sampling thread; requests without a response get a `PolicyError`."""
        await asyncio.to_thread(self._sampler.close)

    def _check(self, prompt_ids: Sequence[int]) -> None:
        if not prompt_ids or max(prompt_ids) >= self._vocabulary:
            raise UserError(
                f"the prompt has the token id {max(prompt_ids, default=None)}, but the model {self.name} has "
                f"{self._vocabulary} ids; use the model's own tokenizer"
            )

    def _fitted(self, prompt_ids: Sequence[int], params: SamplingParams) -> SamplingParams:
        tokens_left = self.max_model_tokens - len(prompt_ids)
        if tokens_left < 1:
            raise ContextOverflow(f"{len(prompt_ids)} prompt tokens fill the model's {self.max_model_tokens}")
        return params.model_copy(update={"max_tokens": min(params.max_tokens, tokens_left)})


@asynccontextmanager
async def open_transformers(directory: Path, *, device: str = "cpu") -> AsyncIterator[TransformersPolicy]:
    """The model of a directory (config and safetensors, float32), for the length of an `async with`."""
    model = await asyncio.to_thread(_load, directory, device)
    policy = TransformersPolicy(model, name=_name(directory))
    try:
        yield policy
    finally:
        await policy.close()


def _name(directory: Path) -> str:
    return directory.resolve().name


def _load(directory: Path, device: str) -> Any:
    try:
        import torch
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise UserError("a policy from a directory needs torch: install swe-aem[transformers]") from error
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError) as error:
        raise UserError(f"{directory}: no model that transformers can load: {error}") from error
    return model.to(device)
