"""Earlier thinking: where it stays, where a family's chat template leaves it out, and what is stored then."""

import json
import random
import re

import pytest

from swe_aem.agent import NativeAgent, NativeConfig, RendererConfig, TurnRenderer
from swe_aem.agent.families.builtin import FAMILIES
from swe_aem.agent.families.properties import TOOL
from swe_aem.agent.prompt import TokenPrompt
from swe_aem.core import Completion, Deadline, SamplingParams, Stop
from swe_aem.errors import UserError
from swe_aem.models.chat_template import chat_template_of
from swe_aem.testing.tokenizers import stand_in_tokenizer
from tests.agent.test_family_templates import FIRST, KEPT, model, template_of

TEMPLATES = {name: family for name, family in KEPT.items() if name not in ("qwen3_instruct_2507", "qwen3_5_nothink")}
"""Templates of models that think, and their families."""
KEEPS_ALL = "qwen3_8"
"""Its template leaves no thinking out."""
PARAMS = SamplingParams(max_tokens=1 << 20, temperature=1.0, top_p=1.0, stop_token_ids=(), seed=0)


class Saying:
    """A policy that samples `ids`."""

    name = "saying"
    ids: tuple[int, ...] = ()

    async def sample(self, prompt_ids, params, *, trajectory_id):
        return Completion(token_ids=self.ids, logprobs=(-0.5,) * len(self.ids), finish_reason="stop")

    async def close(self):
        pass


async def conversation(renderer, chance, turns):
    """The prompts after each of some random turns, in which the model always thinks and sometimes calls."""
    policy, tools = Saying(), [TOOL] if renderer.describes_tools else []
    prompt = TokenPrompt.of(policy, renderer, FIRST, tools)
    for n in range(1, turns + 1):
        said = {"role": "assistant", "content": f"I say {n}.", "reasoning_content": f"I think {n}."}
        calls = bool(tools) and chance.random() < 0.6
        if calls:
            function = {"name": "act", "arguments": json.dumps({"text": f"x{n}"})}
            said["tool_calls"] = [{"id": f"call_{n}_0", "type": "function", "function": function}]
        try:
            policy.ids = tuple(renderer.render_assistant(said))
        except UserError:  # the format has no place for thinking
            del said["reasoning_content"]
            policy.ids = tuple(renderer.render_assistant(said))
        sampled = await prompt.sample(PARAMS, trajectory_id="t.0", number=n)
        answer = {"role": "tool", "tool_call_id": f"call_{n}_0", "name": "act", "content": f"out {n}"}
        answers = [answer if calls else {"role": "user", "content": f"Go on {n}."}]
        before, prompt = prompt, prompt.after(sampled, answers)
        assert prompt is not None
        yield before, sampled, prompt, calls


def as_template_writes(template, prompt):
    """The template's text of the messages of a prompt."""
    messages = []
    for message in prompt.messages:
        calls = [
            {**call, "function": {**call["function"], "arguments": json.loads(call["function"]["arguments"])}}
            for call in message.get("tool_calls", ())
        ]
        thought = {"thinking": message["reasoning_content"]} if message.get("reasoning_content") else {}
        messages.append({**message, **thought, **({"tool_calls": calls} if calls else {})})
    # gpt-oss's own encoder gives a tool's answer as it is, its template as a JSON string
    return re.sub(r'"(out \d+)"<\|end\|>', r"\1<|end|>", template.render(messages, prompt.tools))


@pytest.mark.contract(trl=True)
@pytest.mark.parametrize("name", TEMPLATES)
async def test_prompts_are_the_template_s_also_where_it_leaves_thinking_out(name, tmp_path):
    tokenizer = model(tmp_path, FAMILIES[TEMPLATES[name]].tokens, template_of(name))
    described = {"bos_token": "<｜begin▁of▁sentence｜>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(described), encoding="utf-8")
    template = chat_template_of(tokenizer)
    assert template is not None
    renderer = TurnRenderer(tokenizer, RendererConfig(thinking="as_template"))
    for seed in range(2):
        async for before, sampled, prompt, calls in conversation(renderer, random.Random(seed), 5):
            assert prompt.token_ids == tokenizer.encode(as_template_writes(template, prompt))
            assert prompt.new_stream == (not calls and name != KEEPS_ALL)
            done = [*before.token_ids, *sampled.token_ids]
            assert prompt.new_stream or prompt.token_ids[: len(done)] == done


@pytest.mark.parametrize("family", FAMILIES)
async def test_kept_thinking_makes_one_stream(family):
    renderer = TurnRenderer(stand_in_tokenizer(family), RendererConfig(family=family))
    async for before, sampled, prompt, _ in conversation(renderer, random.Random(1), 4):
        done = [*before.token_ids, *sampled.token_ids]
        assert prompt.token_ids[: len(done)] == done
        assert not prompt.new_stream


THOUGHTS = [f"<think>\nthought {n}\n</think>\n\n" for n in range(4)]
LS = '<tool_call>\n{"name": "bash", "arguments": {"command": "ls"}}\n</tool_call><|im_end|>'
SUBMIT = '<tool_call>\n{"name": "submit", "arguments": {}}\n</tool_call><|im_end|>'


@pytest.mark.parametrize(
    ("replies", "own", "branches"),
    [
        # no call, so a user's message: the stream with more sampled tokens is the trajectory's
        ([LS, LS, "Done.<|im_end|>", SUBMIT], [0, 1, 2], [[3]]),
        (["Done.<|im_end|>", LS, LS, SUBMIT], [1, 2, 3], [[0]]),
        (["Done.<|im_end|>", "Done.<|im_end|>", LS, SUBMIT], [2, 3], [[0], [1]]),
        ([LS, LS, LS, SUBMIT], [0, 1, 2, 3], []),
    ],
)
async def test_the_native_agent_s_own_messages_split_a_stream(
    replies, own, branches, task, tokenizer, make_policy, make_sandbox
):
    policy = make_policy([thought + reply for thought, reply in zip(THOUGHTS, replies, strict=True)])
    agent = NativeAgent(NativeConfig(), TurnRenderer(tokenizer, RendererConfig(thinking="as_template")))
    played = await agent.run(task, make_sandbox(), policy, sample=0, deadline=Deadline.after(600))
    assert played.stop is Stop.SUBMITTED
    streams = [played, *played.branches]
    assert [len(stream.responses) for stream in streams] == [len(numbers) for numbers in (own, *branches)]
    numbers = [number for stream in (own, *branches) for number in stream]
    spans = [(stream.token_ids, response) for stream in streams for response in stream.responses]
    for number, (ids, response) in zip(numbers, spans, strict=True):
        assert list(ids[: response.start]) == policy.prompts[number]
        assert tokenizer.decode(ids[response.start : response.end]) == THOUGHTS[number] + replies[number]
    assert sum(message["role"] == "assistant" for message in played.messages) == len(replies)
    lost = [n for n, reply in enumerate(replies) if reply.startswith("Done")]
    last = tokenizer.decode(policy.prompts[-1])
    for n in range(len(replies) - 1):
        assert (f"thought {n}" in last) == (n > max(lost, default=-1))
