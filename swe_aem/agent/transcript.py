"""`Transcript`: what was said in one trajectory as it grows, for agents in this process."""

from collections.abc import Sequence
from typing import Any

from swe_aem.agent.parsed import Message
from swe_aem.agent.prompt import Sampled
from swe_aem.agent.turn_sampler import TrajectoryEnded, TurnSampler
from swe_aem.core import Response, Stop, ToolCall


class Transcript:
    """One trajectory's prompts, responses and messages. Each prompt begins with the exact ids of everything before it,
    or for a chat API with the messages."""

    def __init__(self, sampler: TurnSampler, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> None:
        """`messages` and the schemas of `tools` make the first prompt."""
        self._sampler = sampler
        self.messages: list[Message] = list(messages)
        self._prompt = sampler.start(self.messages, tools)
        self.token_ids: Sequence[int] = self._prompt.token_ids
        """Token ids of the trajectory so far: the prompt of the last response, and that response."""
        self.responses: list[Response] = []

    async def sample(self) -> Sampled:
        """The next response. Raises what `TurnSampler.sample` raises."""
        return await self._sampler.sample(self._prompt, turn=len(self.responses))

    def record(self, sampled: Sampled, calls: Sequence[ToolCall]) -> None:
        """Keep a response with its exact token ids, before anything can end the trajectory."""
        self.token_ids = [*self._prompt.token_ids, *sampled.token_ids]
        self.responses.append(sampled.with_calls(calls))

    def show(self, sampled: Sampled, answers: Sequence[Message]) -> None:
        """Add the recorded response and what answers it to the messages."""
        self.messages += [sampled.turn.message(len(self.responses)), *answers]

    def extend(self, sampled: Sampled, answers: Sequence[Message], *, well_formed: bool) -> None:
        """Make the next prompt of what answers the recorded response.

        Raises `TrajectoryEnded` if the time is up, after too many responses without a well-formed call, and if no turn
        can follow the response.
        """
        self._sampler.check_time()
        self._sampler.count(well_formed=well_formed)
        following = self._prompt.after(sampled, answers)
        if following is None:
            raise TrajectoryEnded(Stop.MALFORMED, "the response broke the format so that no turn can follow it")
        self._prompt = following
