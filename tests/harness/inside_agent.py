# /// script
# requires-python = ">=3.11"
# dependencies = []
#
# [tool.swe-aem]
# shell = "run"
# finish = { done = {} }
# inside = true
# ///
"""An agent whose loop runs in the sandbox, in Python; its tool is a command there."""

# pyright: reportMissingImports=false
import shlex

from swe_aem_worker import Conversation

LOOP = """
import json, subprocess, sys, urllib.request
base_url, statement = sys.argv[1:]
def tool(name, **properties):
    parameters = {"type": "object", "properties": properties}
    return {"type": "function", "name": name, "description": name, "parameters": parameters}
items = [{"role": "user", "content": statement}]
while True:
    body = {"model": "any", "input": items, "tools": [tool("run", command={"type": "string"}), tool("done")]}
    with urllib.request.urlopen(base_url + "/responses", json.dumps(body).encode()) as answer:
        said = json.load(answer)["output"]
    items += said
    for call in said:
        if call["type"] == "function_call":
            if call["name"] == "done":
                sys.exit(0)
            command = json.loads(call["arguments"])["command"]
            done = subprocess.run(["/bin/bash", "-c", command], capture_output=True, text=True)
            output = done.stdout + done.stderr
            items.append({"type": "function_call_output", "call_id": call["call_id"], "output": output})
"""


def converse(conversation: Conversation) -> str:
    path = "/tmp/inside-agent.py"
    conversation.sandbox.write_file(path, LOOP.encode())
    statement = shlex.join([conversation.base_url, conversation.statement])
    done = conversation.sandbox.run(
        f'{conversation.forward} "$(command -v python3)" {path} {statement}', timeout_s=3600
    )
    if done.exit_code:
        raise RuntimeError(done.text)
    return "submitted"
