"""An agent that takes its time, in its sandbox, before it does what the policy says."""

import random
from typing import ClassVar

import swe_aem as sa
from swe_aem.agent.conversation import Conversation

_TAKES_S = (4.0, 12.0)
_TEXT = {"type": "string"}
TOOLS = [
    {"type": "function", "function": {"name": name, "description": name, "parameters": parameters}}
    for name, parameters in {
        "run": {"type": "object", "properties": {"command": _TEXT}, "required": ["command"]},
        "done": {"type": "object", "properties": {}},
    }.items()
]


class Patient(sa.Settings):
    """It carries out command lines."""

    tools: ClassVar = sa.ScriptTools(shell="run", finish=("done", {}))

    async def converse(self, conversation: Conversation) -> None:
        """Play one trajectory."""
        dice = random.Random(f"{conversation.task.id}.{conversation.sample}")
        conversation.begin([{"role": "user", "content": conversation.task.problem_statement}], TOOLS)
        await conversation.run(f"sleep {dice.uniform(*_TAKES_S):.3f}", timeout_s=60.0)
        while True:
            for call in (await conversation.ask()).calls:
                if call.name == "done":
                    return
                result = await conversation.run(str(call.arguments["command"]), timeout_s=60.0)
                conversation.answer(call, result.output, result)
