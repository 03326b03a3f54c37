"""A worker process: `python main.py HARNESS_FILE`, JSON lines on stdin and stdout, one thread per conversation.

in   {"start": {...}}   {"reply": N, "value": ...}   {"reply": N, "error": [errno, text]}   {"over": ID}
out  {"ready": true}   {"call": N, "id": ID, "method": ..., "arguments": {...}}   {"done": ID, "end": ..., "error": ...}

Output of libraries goes to stderr. The process ends when its stdin is closed.
"""

import importlib.util
import itertools
import json
import os
import queue
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from swe_aem_worker import Conversation, Over, Sandbox


class ConversationRunner:
    """The state of the process: its conversations, and the calls that wait for replies."""

    def __init__(self, harness: Any, out: Any) -> None:
        self._harness = harness
        self._out = out
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._conversations: dict[str, Conversation] = {}

    def send(self, message: dict[str, Any]) -> None:
        """Write one line."""
        line = json.dumps(message).encode() + b"\n"
        with self._lock:
            self._out.write(line)
            self._out.flush()

    def serve(self, lines: Any) -> None:
        """Handle messages until there are no more."""
        for line in lines:
            message = json.loads(line)
            if "start" in message:
                self._start(message["start"])
            elif "reply" in message:
                self._waiting.pop(message["reply"]).put(message)
            elif message["over"] in self._conversations:
                self._conversations[message["over"]].over.set()

    def _start(self, given: dict[str, Any]) -> None:
        id = given["id"]
        sandbox = Sandbox(lambda method, arguments: self._ask(id, method, arguments))
        conversation = self._conversations[id] = Conversation(**given, sandbox=sandbox)
        threading.Thread(target=self._converse, args=(conversation,), name=id, daemon=True).start()

    def _converse(self, conversation: Conversation) -> None:
        end = error = None
        try:
            end = self._harness.converse(conversation)
        except BaseException:  # whatever ends a conversation is reported, and the others continue
            error = traceback.format_exc()[-4000:]
        del self._conversations[conversation.id]
        end = end if end is None or isinstance(end, str) else repr(end)  # the host reports an invalid end
        self.send({"done": conversation.id, "end": end, "error": error})

    def _ask(self, id: str, method: str, arguments: dict[str, Any]) -> Any:
        if id not in self._conversations or self._conversations[id].over.is_set():
            raise Over("the conversation is over")
        answer: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        number = next(self._numbers)
        self._waiting[number] = answer
        self.send({"call": number, "id": id, "method": method, "arguments": arguments})
        reply = answer.get()
        if "error" not in reply:
            return reply["value"]
        code, text = reply["error"]
        raise Over(text) if code is None else OSError(code, text, arguments.get("path"))


def load(file: Path) -> Any:
    """The harness's module. Its directory comes last in `sys.path`, so that no file beside it hides a package."""
    sys.path.append(str(file.parent))
    spec = importlib.util.spec_from_file_location("swe_aem_harness", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Load the harness, report that it is ready, and serve."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    runner = ConversationRunner(load(Path(sys.argv[1])), out)
    runner.send({"ready": True})
    runner.serve(sys.stdin.buffer)
    sys.stderr.flush()
    os._exit(0)  # threads of conversations that are over end here


if __name__ == "__main__":
    main()
