"""A verifier: a policy that is asked, with the issue and a patch, whether the patch is right.

It answers YES or NO. The score is the probability that it gave to YES: that of the answer's own tokens where it said
so, and 1 less that where it said NO, so either answer tells the same. A chat API reports no log-probabilities: its YES
is 1 and its NO is 0, and asking several times gives a share. An answer with neither is 0.5.
"""

import math
import re

from swe_aem.agent import TurnRenderer
from swe_aem.agent.prompt import Sampled, first_prompt
from swe_aem.agent.seed import request_seed
from swe_aem.core import AnyPolicy, SamplingParams, Task
from swe_aem.selection.candidates import Candidate
from swe_aem.selection.config import SelectConfig

_ANSWER = re.compile(r"\b(yes|no)\b", re.IGNORECASE)
_LONGEST_PATCH_CHARS = 40_000
UNDECIDED = 0.5
"""The score of what says neither."""
QUESTION = """\
You review a patch for a repository. Decide whether it resolves the issue completely, without breaking anything else.

<issue>
{issue}
</issue>

<patch>
{patch}
</patch>

Does the patch resolve the issue? Answer with one word, YES or NO."""


def messages_about(task: Task, candidate: Candidate) -> list[dict[str, str]]:
    """What the verifier is asked. Of a long patch only the beginning is shown."""
    patch = candidate.patch.text[:_LONGEST_PATCH_CHARS]
    return [{"role": "user", "content": QUESTION.format(issue=task.problem_statement.strip(), patch=patch)}]


async def ask(
    policy: AnyPolicy,
    renderer: TurnRenderer | None,
    task: Task,
    candidate: Candidate,
    number: int,
    config: SelectConfig,
) -> float:
    """The score of one answer, number `number` of those about the candidate. Raises `PolicyError`."""
    prompt = first_prompt(policy, renderer, messages_about(task, candidate), ())
    params = SamplingParams(
        max_tokens=config.verifier_tokens,
        stop_token_ids=prompt.stop_token_ids,
        seed=request_seed(0, *candidate.key, number),
    )
    sampled = await prompt.sample(params, trajectory_id=f"verify.{candidate.key}.{number}", number=1)
    return _score_of_message(sampled) if renderer is None else _score_of_tokens(sampled, renderer)


def _score_of_message(sampled: Sampled) -> float:
    found = _ANSWER.findall(sampled.turn.content or "")
    return UNDECIDED if not found else float(found[-1].lower() == "yes")


def _score_of_tokens(sampled: Sampled, renderer: TurnRenderer) -> float:
    """By the probability of the tokens of which the last YES or NO is made."""
    ends, text = [], ""
    for count in range(1, len(sampled.token_ids) + 1):
        text = renderer.tokenizer.decode(list(sampled.token_ids[:count]))
        ends.append(len(text))
    found = list(_ANSWER.finditer(text))
    if not found:
        return UNDECIDED
    first = next(n for n, end in enumerate(ends) if end > found[-1].start())
    last = next(n for n, end in enumerate(ends) if end >= found[-1].end())
    probability = math.exp(min(0.0, sum(sampled.response.logprobs[first : last + 1])))
    return probability if found[-1][1].lower() == "yes" else 1.0 - probability
