"""`Sleeping`: an agent whose trajectories take as long as their lot says, whatever the policy does and however busy the
machine is."""

import json
import math
import random

import swe_aem as sa
from swe_aem.agent.conversation import Conversation
from swe_aem.agent.parsed import ParsedCall


class Sleeping(sa.Settings):
    """Carries out the commands of the quickstart's policy. Before the first one a command sleeps in the sandbox."""

    median_s: float
    sigma: float
    """Standard deviation of the logarithm of the seconds."""
    limit_s: float
    """Longest sleep."""
    seed: int = 0

    def sleep_s(self, task_id: str, sample: int) -> float:
        """Seconds that a trajectory sleeps: log-normal, and the same in every run."""
        dice = random.Random(json.dumps([self.seed, task_id, sample]))
        return min(self.limit_s, dice.lognormvariate(math.log(self.median_s), self.sigma))

    async def converse(self, conversation: Conversation) -> None:
        """Play one trajectory."""
        statement = conversation.task.problem_statement
        conversation.begin(
            [{"role": "system", "content": "Repair the function."}, {"role": "user", "content": statement}]
        )
        turn = await conversation.ask()
        seconds = self.sleep_s(conversation.task.id, conversation.sample)
        await conversation.run(f"sleep {seconds:.3f}", timeout_s=2 * self.limit_s)
        while True:
            for call in turn.calls:
                if call.name == "submit":
                    return
                await _carry_out(conversation, call)
            if not turn.calls:
                conversation.say("Call a tool.")
            turn = await conversation.ask()


async def _carry_out(conversation: Conversation, call: ParsedCall) -> None:
    command = call.arguments.get("command")
    if call.problem or not isinstance(command, str):
        conversation.answer(call, "That is no call of a tool.")
        return
    result = await conversation.run(command, timeout_s=10.0)
    conversation.answer(call, result.output, result)
