"""What a verifier's answer is worth, by tokens and by messages."""

import math
from typing import Any

import pytest

from swe_aem.agent import TurnRenderer
from swe_aem.core import ChatCompletion, Completion, Usage
from swe_aem.policy import load_tokenizer
from swe_aem.selection import Candidate, SelectConfig, read_patch
from swe_aem.selection.verifier import ask
from swe_aem.testing.builders import make_record

TASK = make_record().task
CANDIDATE = Candidate(task_id="task-0", sample=3, model="m", patch=read_patch("the patch"), resolved=None)
CONFIG = SelectConfig(ways=("verifier",), verifier="chat:x", verifier_tokens=40)


class Says:
    """Says a text, each byte of which had the log-probability -0.1, and remembers what it was asked."""

    name = "says"

    def __init__(self, text: str) -> None:
        self.text, self.asked = text, ""

    async def sample(self, prompt_ids: Any, params: Any, *, trajectory_id: str) -> Completion:
        self.asked = load_tokenizer(None).decode(list(prompt_ids))
        ids = tuple(load_tokenizer(None).encode(self.text))
        return Completion(token_ids=ids, logprobs=(-0.1,) * len(ids), finish_reason="stop")

    async def close(self) -> None: ...


class Chats:
    """Says a text as a chat API does."""

    name = "chats"

    def __init__(self, text: str) -> None:
        self.text = text

    async def chat(self, messages: Any, tools: Any, params: Any, *, trajectory_id: str) -> ChatCompletion:
        said = {"role": "assistant", "content": self.text}
        return ChatCompletion(message=said, finish_reason="stop", usage=Usage(prompt_tokens=1, completion_tokens=1))

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("YES", math.exp(-0.3)),
        ("NO", 1 - math.exp(-0.2)),
        ("No, rather YES.", math.exp(-0.3)),
        ("Nobody knows", 0.5),
    ],
)
async def test_the_probability_of_the_answers_own_tokens(text: str, score: float) -> None:
    renderer = TurnRenderer(load_tokenizer(None))
    policy = Says(text)
    assert await ask(policy, renderer, TASK, CANDIDATE, 0, CONFIG) == pytest.approx(score)
    assert TASK.problem_statement in policy.asked
    assert "the patch" in policy.asked


@pytest.mark.parametrize(("text", "score"), [("yes", 1.0), ("The answer is NO", 0.0), ("perhaps", 0.5)])
async def test_a_chat_api_says_it_in_words(text: str, score: float) -> None:
    assert await ask(Chats(text), None, TASK, CANDIDATE, 0, CONFIG) == score
