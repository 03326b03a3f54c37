"""An agent: the loop between a policy and a sandbox."""

from typing import Any, ClassVar

import swe_aem as sa


def tool(name: str, description: str, **properties: dict[str, str]) -> dict[str, Any]:
    """The schema of a tool whose arguments are all needed."""
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS = [
    tool("run", "Run a command line in the repository.", command={"type": "string"}),
    tool("done", "Hand in the repository as it is."),
]


class NewName(sa.Settings):
    """Runs the command lines that the policy calls for, until it is done."""

    tools: ClassVar = sa.ScriptTools(shell="run", finish=("done", {}))  # by which the policies gold and noop act

    command_timeout_s: float = 60.0
    """Seconds that a command line may take."""

    async def converse(self, conversation: sa.Conversation) -> None:
        """Play one trajectory. Limits of turns, context and time end it by an exception that is not to be caught."""
        task = conversation.task
        question = f"Fix this issue in {task.workdir}.\n\n{task.problem_statement}"
        conversation.begin([{"role": "user", "content": question}], TOOLS)
        while True:
            turn = await conversation.ask()
            for call in turn.calls:
                command = call.arguments.get("command")
                if call.name == "done" and not call.problem:
                    return
                if call.name == "run" and not call.problem and isinstance(command, str):
                    result = await conversation.run(command, timeout_s=self.command_timeout_s)
                    conversation.answer(call, f"{result.output}\n[exit code {result.exit_code}]", result)
                else:
                    conversation.answer(call, f"This is no call of a tool: {call.problem or call.name}")
            if not turn.calls:
                conversation.say("Call a tool.")
