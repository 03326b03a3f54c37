"""`Transcript`: the exact tokens and the messages of one trajectory as they grow, for agents in this process."""

from collections.abc import Sequence
from typing import Any

from swe_aem.agent.renderer import Message, ParsedTurn, TurnRenderer
from swe_aem.agent.turn_sampler import Sampled, TrajectoryEnded, TurnSampler
from swe_aem.core import Response, Stop, ToolCall


class Transcript:
    """One trajectory's tokens. Each prompt begins with the exact ids of everything before it; nothing is tokenised
    twice."""

    def __init__(
        self,
        renderer: TurnRenderer,
        sampler: TurnSampler,
        messages: Sequence[Message],
        tools: Sequence[dict[str, Any]],
    ) -> None:
        """`messages` and the schemas of `tools` make the first prompt."""
        self._renderer, self._sampler = renderer, sampler
        self.messages: list[Message] = list(messages)
        self.prompt_ids = renderer.start(self.messages, tools)
        self.token_ids = self.prompt_ids
        """Token ids of the trajectory so far: the prompt of the last response, and that response."""
        self.responses: list[Response] = []

    async def sample(self) -> tuple[Sampled, ParsedTurn]:
        """The next response. Raises what `TurnSampler.sample` raises."""
        sampled = await self._sampler.sample(self.prompt_ids, turn=len(self.responses))
        return sampled, self._renderer.parse(sampled.completion.token_ids, self.prompt_ids)

    def record(self, sampled: Sampled, calls: Sequence[ToolCall]) -> None:
        """Keep a response with its exact token ids, before anything can end the trajectory."""
        completion = sampled.completion
        self.token_ids = [*self.prompt_ids, *completion.token_ids]
        self.responses.append(
            Response.of(completion, start=len(self.prompt_ids), sample_s=sampled.sample_s, tool_calls=calls)
        )

    def show(self, turn: ParsedTurn, answers: Sequence[Message]) -> None:
        """Add the recorded response and what answers it to the messages."""
        self.messages += [turn.message(len(self.responses)), *answers]

    def extend(self, sampled: Sampled, answers: Sequence[Message], *, well_formed: bool) -> None:
        """Make the next prompt of what answers the recorded response.

        Raises `TrajectoryEnded` if the time is up, after too many responses without a well-formed call, and if no turn
        can follow the response.
        """
        self._sampler.check_time()
        self._sampler.count(well_formed=well_formed)
        next_prompt_ids = self._renderer.bridge(self.prompt_ids, sampled.completion.token_ids, answers)
        if next_prompt_ids is None:
            raise TrajectoryEnded(Stop.MALFORMED, "the response broke the format so that no turn can follow it")
        self.prompt_ids = next_prompt_ids
