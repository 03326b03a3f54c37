"""`TurnSampler`: samples the responses of one trajectory within its limits, for the native agent and for the gateway.

    prompt ──> room left? time left? ──> policy ──> a checked response
                    └──────────── no ────┴──────> `TrajectoryEnded` with the limit that was reached

An infrastructure failure is never a limit: it passes through as the policy raised it. A response that takes long is
no limit either: a request is not cut short at the deadline, whose clock stands meanwhile.
"""

from collections.abc import Sequence
from typing import Any

from swe_aem.agent.config import TurnLimits
from swe_aem.agent.parsed import Message
from swe_aem.agent.prompt import Prompt, Sampled, first_prompt
from swe_aem.agent.renderer import TurnRenderer
from swe_aem.agent.seed import request_seed
from swe_aem.core import AnyPolicy, Deadline, SamplingParams, Stop, TrajectoryKey
from swe_aem.policy import ContextOverflow

OUT_OF_TIME = "the trajectory is out of time"


class TrajectoryEnded(Exception):
    """The trajectory is over: why, as a `Stop`; the message says the same in words."""

    def __init__(self, stop: Stop, why: str) -> None:
        super().__init__(why)
        self.stop = stop


class TurnSampler:
    """Samples for one trajectory; any number of its turns may be in flight at once."""

    def __init__(
        self,
        policy: AnyPolicy,
        renderer: TurnRenderer | None,
        limits: TurnLimits,
        deadline: Deadline,
        *,
        task_id: str,
        sample: int,
    ) -> None:
        """A policy that takes token ids needs the renderer."""
        self._policy, self._renderer, self._limits, self._deadline = policy, renderer, limits, deadline
        self._key = TrajectoryKey(task_id, sample)
        self._malformed_in_a_row = 0

    def start(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> Prompt:
        """The prompt of a conversation's first response, as `first_prompt` makes it."""
        return first_prompt(self._policy, self._renderer, messages, tools)

    async def sample(self, prompt: Prompt, *, turn: int) -> Sampled:
        """The response to `prompt`; `turn` is its number in the trajectory, from 0, which decides its seed.

        Raises `TrajectoryEnded` at the context limit and after the deadline, `PolicyError` if the policy failed or
        returned something that does not add up.
        """
        params = self._params(prompt, turn)
        self.check_time()
        try:
            return await prompt.sample(params, trajectory_id=str(self._key), number=turn + 1)
        except ContextOverflow as error:
            raise TrajectoryEnded(Stop.CONTEXT_LIMIT, f"maximum context length: {error}") from error

    def check_time(self) -> None:
        """Raise `TrajectoryEnded` at the time limit if the deadline has passed."""
        if self._deadline.expired():
            raise TrajectoryEnded(Stop.TIME_LIMIT, OUT_OF_TIME)

    def count(self, *, well_formed: bool) -> None:
        """Count a response. Raises `TrajectoryEnded` after `max_consecutive_malformed` in a row that are not well
        formed."""
        self._malformed_in_a_row = 0 if well_formed else self._malformed_in_a_row + 1
        if self._malformed_in_a_row >= self._limits.max_consecutive_malformed:
            raise TrajectoryEnded(Stop.MALFORMED, f"{self._malformed_in_a_row} malformed responses in a row")

    def _params(self, prompt: Prompt, turn: int) -> SamplingParams:
        prompt_tokens, max_tokens = prompt.tokens, self._limits.max_context_tokens
        if prompt_tokens >= max_tokens:
            why = f"maximum context length: the prompt has {prompt_tokens} tokens, and there is room for {max_tokens}"
            raise TrajectoryEnded(Stop.CONTEXT_LIMIT, why)
        return SamplingParams(
            max_tokens=min(self._limits.max_response_tokens, max_tokens - prompt_tokens),
            temperature=self._limits.temperature,
            top_p=self._limits.top_p,
            stop_token_ids=prompt.stop_token_ids,
            seed=request_seed(self._limits.seed, *self._key, turn),
        )
