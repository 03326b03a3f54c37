"""Scripted steps whose trajectories have branches. Importable without torch and trl."""

import random

from swe_aem.core import Branch, Response, Trajectory
from swe_aem.testing.steps import VOCABULARY, ScriptedSteps


class BranchedSteps(ScriptedSteps):
    """Those of `ScriptedSteps`, with none to three branches each, of which one was not certainly by the agent."""

    def _trajectory(self, number: int, group: int, sample: int) -> Trajectory:
        plain = super()._trajectory(number, group, sample)
        dice = random.Random(f"branches {number} {group} {sample}")
        branches = [self._branch(plain, number, dice) for _ in range(dice.randint(0, 3))]
        doubtful = [branch.model_copy(update={"by_agent": False}) for branch in branches[:1]]
        return plain.model_copy(update={"branches": (*doubtful, *branches[1:])})

    def _branch(self, plain: Trajectory, number: int, dice: random.Random) -> Branch:
        """One that begins with the prompt of the trajectory's last response."""
        ids = list(plain.token_ids[: plain.responses[-1].start])
        responses = []
        for _ in range(dice.randint(1, 2)):
            start, length = len(ids), dice.randint(2, 9)
            ids += [dice.randrange(2, VOCABULARY) for _ in range(length + 1)]
            responses.append(
                Response(
                    start=start, end=start + length, logprobs=(-1.0,) * length, version=number - 1,
                    finish_reason="stop", sample_s=0.0,
                )
            )  # fmt: skip
        return Branch(token_ids=tuple(ids), responses=tuple(responses), by_agent=True)
