"""`Transcript`: what was said in one trajectory as it grows, for agents in this process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from swe_aem.agent.parsed import Message
from swe_aem.agent.prompt import Sampled
from swe_aem.agent.turn_sampler import TrajectoryEnded, TurnSampler
from swe_aem.core import Branch, Response, Stop, ToolCall, Trajectory


@dataclass
class _Stream:
    """A token stream as it grows."""

    token_ids: Sequence[int]
    """The prompt of the last response, and that response."""
    responses: list[Response] = field(default_factory=list)

    @property
    def sampled_tokens(self) -> int:
        return sum(response.used.completion_tokens for response in self.responses)


class Transcript:
    """One trajectory's prompts, responses and messages. Each prompt begins with the exact ids of everything before it,
    or for a chat API with the messages. One that leaves earlier thinking out begins another token stream."""

    def __init__(self, sampler: TurnSampler, messages: Sequence[Message], tools: Sequence[dict[str, Any]]) -> None:
        """`messages` and the schemas of `tools` make the first prompt."""
        self._sampler = sampler
        self.messages: list[Message] = list(messages)
        self._prompt = sampler.start(self.messages, tools)
        self._streams = [_Stream(self._prompt.token_ids)]

    @property
    def turns(self) -> int:
        """How many responses are recorded."""
        return sum(len(stream.responses) for stream in self._streams)

    async def sample(self) -> Sampled:
        """The next response. Raises what `TurnSampler.sample` raises."""
        return await self._sampler.sample(self._prompt, turn=self.turns)

    def record(self, sampled: Sampled, calls: Sequence[ToolCall]) -> None:
        """Keep a response with its exact token ids, before anything can end the trajectory."""
        stream = self._streams[-1]
        stream.token_ids = [*self._prompt.token_ids, *sampled.token_ids]
        stream.responses.append(sampled.with_calls(calls))

    def show(self, sampled: Sampled, answers: Sequence[Message]) -> None:
        """Add the recorded response and what answers it to the messages."""
        self.messages += [sampled.turn.message(self.turns), *answers]

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
        if following.new_stream:
            self._streams.append(_Stream(following.token_ids))

    def trajectory(self, **fields: Any) -> Trajectory:
        """What was said, as a trajectory with further `fields`. Its own token stream is the one with the most sampled
        tokens; the others are branches."""
        main = max(self._streams, key=lambda stream: stream.sampled_tokens)
        branches = [stream for stream in self._streams if stream is not main and stream.responses]
        return Trajectory(
            token_ids=tuple(main.token_ids),
            responses=tuple(main.responses),
            branches=tuple(
                Branch(token_ids=tuple(stream.token_ids), responses=tuple(stream.responses), by_agent=True)
                for stream in branches
            ),
            messages=tuple(self.messages),
            **fields,
        )
