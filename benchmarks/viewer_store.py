"""A training run's directory with as many trajectories as wanted, of the size wanted, made in minutes.

Rows are valid and made of parts that are rendered once: skeletons, which are spans, token ids and log-probabilities,
and actions, which are a response and what came back. What differs in every row are its head, its task's text, its
patch, its verdict, and which actions it is made of. One row in a hundred has hostile content.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swe_aem.core import OUTCOME_TABLE, Outcome, Response, TestStatus, ToolCall, Verdict
from swe_aem.policy import BYTE_TOKENIZER_NAME
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.manifest import Manifest
from swe_aem.store import Store
from swe_aem.store.segments import seal, segment_path
from swe_aem.store.upgrade import FORMAT
from swe_aem.testing.builders import make_trajectory
from swe_aem.train.records import METRICS, StepMetrics
from swe_aem.train.schedule import SCHEDULE, ScheduledStep

GROUP_SIZE = 8
GROUPS_PER_STEP = 32
TASKS = 256
SEGMENT_BYTES = 128 << 20
SKELETONS = 24
ACTIONS = 600
TOKENS_PER_TURN = 800
_OUTCOMES = (
    (Outcome.RESOLVED, 34), (Outcome.UNRESOLVED, 40), (Outcome.EMPTY_PATCH, 4), (Outcome.TESTS_HANG, 2),
    (Outcome.TURN_LIMIT, 8), (Outcome.CONTEXT_LIMIT, 4), (Outcome.TIME_LIMIT, 2), (Outcome.MALFORMED, 2),
    (Outcome.INTEGRITY_VIOLATION, 1), (Outcome.SANDBOX_KILLED, 1), (Outcome.INFRASTRUCTURE, 1),
    (Outcome.GRADER_FAILURE, 1),
)  # fmt: skip
_VERBS = [
    "parse",
    "read",
    "write",
    "load",
    "split",
    "merge",
    "check",
    "open",
    "close",
    "find",
    "drop",
    "make",
    "send",
    "fetch",
    "render",
    "quote",
    "fold",
    "trim",
]
_THINGS = [
    "header",
    "token",
    "field",
    "index",
    "frame",
    "cache",
    "query",
    "buffer",
    "segment",
    "client",
    "parser",
    "path",
    "record",
    "schema",
    "batch",
]
_REPOS = (
    "django__django", "sympy__sympy", "astropy__astropy", "pytest-dev__pytest", "psf__requests", "pallets__flask",
)  # fmt: skip
_HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=alert(1)>\x1b[31;1mred\x1b]0;title\x07 \0 "
    "\U0010dc80\U0010dcff \u202e reversed </pre></td></table> {{ 7 * 7 }} " + "&amp;<b>" * 50
)
"""Markup, escape sequences, NUL, bytes that are not UTF-8 as the store writes them, and a change of direction."""


def make(directory: Path, trajectories: int, tokens: int, seed: int = 0) -> int:
    """Write a run's directory; returns the bytes of its rows. Trajectories are rounded up to whole groups."""
    store = directory / "rollouts"
    (store / "trajectories").mkdir(parents=True)
    chance = random.Random(seed)
    rows = _Rows(chance, tokens)
    groups = -(-trajectories // GROUP_SIZE)
    _write_settings(directory, groups)
    number, written, total = 0, 0, 0
    file = segment_path(store / "trajectories", number).open("wb")
    for task, epoch, step in _schedule(groups):
        for sample in range(epoch * GROUP_SIZE, (epoch + 1) * GROUP_SIZE):
            line = rows.line(task, sample, step)
            if written and written + len(line) > SEGMENT_BYTES:
                file.close()
                number, written = number + 1, 0
                file = segment_path(store / "trajectories", number).open("wb")
            file.write(line)
            written += len(line)
            total += len(line)
    file.close()
    return total


def make_longest(directory: Path, turns: int) -> None:
    """Write a store of one trajectory, task `longest`: so many turns, twenty times as many tests, and in the second
    turn a line of 2 kB for each turn."""
    small = ToolCall(name="bash", arguments={"command": "ls -la <x> " * 10}, observation="a line of output <b>\n" * 40)
    large = ToolCall(name="bash", arguments={"command": "x" * 2_000 * turns}, observation="<&" * 100)
    messages: list[dict[str, Any]] = [{"role": "user", "content": "Fix it."}]
    responses = []
    for n in range(turns):
        call = large if n == 1 else small
        responses.append(
            Response(
                start=20 * n,
                end=20 * n + 10,
                logprobs=(-1.0,) * 10,
                version=0,
                finish_reason="stop",
                sample_s=0.1,
                tool_calls=(call,),
            )
        )
        function = {"name": "bash", "arguments": '{"command": "ls"}'}
        asked = [{"id": str(n), "type": "function", "function": function}]
        messages.append(
            {"role": "assistant", "content": f"text {n}", "reasoning_content": "think " * 20, "tool_calls": asked}
        )
        messages.append({"role": "tool", "tool_call_id": str(n), "name": "bash", "content": call.observation})
    verdict = Verdict(
        resolved=False,
        patch_applied=True,
        fail_to_pass={f"tests/test_x.py::fails_{n}": TestStatus.FAILED for n in range(10 * turns)},
        pass_to_pass={f"tests/test_x.py::passes_{n}": TestStatus.PASSED for n in range(10 * turns)},
        log_tail="a line\n" * 2_000,
    )
    one = make_trajectory(
        "longest",
        0,
        token_ids=tuple(range(20 * turns)),
        responses=tuple(responses),
        messages=tuple(messages),
        verdict=verdict,
        outcome=Outcome.UNRESOLVED,
        reward=0.0,
    )
    with Store(directory).writer() as writer:
        if one.key not in writer.rows:
            writer.append(one)


def task_id(task: int) -> str:
    """The id of a task."""
    return f"{_REPOS[task % len(_REPOS)]}-{10000 + task}"


def _schedule(groups: int) -> Iterator[tuple[int, int, int]]:
    """Task, epoch and step of each group."""
    for group in range(groups):
        yield group % TASKS, group // TASKS, group // GROUPS_PER_STEP + 1


def _write_settings(directory: Path, groups: int) -> None:
    tasks = {task_id(task): f"{task:016x}" for task, _, _ in _schedule(groups)}
    manifest = Manifest(
        run="0" * 12,
        store_format=FORMAT,
        versions={},
        config=RolloutConfig(tasks="tasks.jsonl", group_size=GROUP_SIZE),
        tasks=tasks,
        tokenizer=BYTE_TOKENIZER_NAME,
    )
    (directory / "rollouts" / "config.json").write_text(manifest.model_dump_json(indent=2) + "\n")
    (directory / "config.yaml").write_text(
        f"model: Qwen/Qwen3-32B\nsteps: {-(-groups // GROUPS_PER_STEP)}\ngroups_per_step: {GROUPS_PER_STEP}\n"
        f"rollout: {{tasks: tasks.jsonl, group_size: {GROUP_SIZE}}}\n"
    )
    steps: dict[int, list[str]] = {}
    for task, _, step in _schedule(groups):
        steps.setdefault(step, []).append(task_id(task))
    lines = [ScheduledStep(step=step, tasks=tuple(ids)).model_dump_json() + "\n" for step, ids in steps.items()]
    (directory / SCHEDULE).write_text("".join(lines))
    metrics = [
        StepMetrics.model_validate(
            {
                "step": step,
                "wall_s": 900.0 * step,
                "rollout_wait_s": 600.0,
                "train_s": 280.0,
                "loss": 0.01,
                "reward": min(0.9, 0.2 + 0.01 * step),
                "resolved_rate": min(0.9, 0.2 + 0.01 * step),
                "groups": len(ids),
                "aem/response_entropy": max(0.1, 0.4 - 0.005 * step),
            }
        ).line()
        for step, ids in steps.items()
    ]
    (directory / METRICS).write_text("".join(metrics))


class _Rows:
    """Makes lines."""

    def __init__(self, chance: random.Random, tokens: int) -> None:
        self._chance = chance
        self._tokens = tokens
        self._skeletons = [_Skeleton(chance, tokens) for _ in range(SKELETONS)]
        self._actions = [_Action(chance) for _ in range(ACTIONS)]
        self._outcomes = [outcome for outcome, weight in _OUTCOMES for _ in range(weight)]

    def line(self, task: int, sample: int, step: int) -> bytes:
        """One row; later steps resolve more."""
        chance = self._chance
        outcome = Outcome.RESOLVED if chance.random() < 0.004 * step else chance.choice(self._outcomes)
        skeleton = chance.choice(self._skeletons)
        actions = [chance.choice(self._actions) for _ in range(skeleton.turns)]
        name = f"{chance.choice(_VERBS)}_{chance.choice(_THINGS)}_{chance.randrange(10**6)}"
        start = [
            {"role": "system", "content": "You fix bugs in Python packages.", "extra": "{}"},
            {"role": "user", "content": f"{name}() raises KeyError: '{name}' in task {task}.", "extra": "{}"},
        ]
        if chance.random() < 0.01:
            start.append({"role": "user", "content": _HOSTILE, "extra": "{}"})
        messages = ", ".join((json.dumps(start)[1:-1], *(part for action in actions for part in action.messages)))
        responses = ", ".join(skeleton.response(number, step - 1, action.call) for number, action in enumerate(actions))
        head = json.dumps(self._head(task, sample, outcome, name))
        body = (
            f'{head[:-1]}, "messages": [{messages}], "responses": [{responses}], {skeleton.tokens}, "branches": "[]"}}'
        )
        return seal(body.encode("ascii"))

    def _head(self, task: int, sample: int, outcome: Outcome, name: str) -> dict[str, Any]:
        chance = self._chance
        failed = OUTCOME_TABLE[outcome].retried
        reward = None if failed else float(outcome is Outcome.RESOLVED)
        path = f"src/{chance.choice(_THINGS)}/{chance.choice(_VERBS)}.py"
        patch = "" if outcome is Outcome.EMPTY_PATCH or failed else _patch(path, name, chance.randrange(1, 40))
        total_s = chance.uniform(60, 900)
        timings_s = {"queue": 1.0, "start": 2.5, "agent": total_s - 40, "grade": 30.0, "total": total_s}
        stop = outcome if outcome in (Outcome.TURN_LIMIT, Outcome.CONTEXT_LIMIT, Outcome.TIME_LIMIT) else "submitted"
        return {
            "format": FORMAT,
            "task_id": task_id(task),
            "sample": sample,
            "attempt": int(chance.random() < 0.03),
            "outcome": outcome,
            "reward": reward,
            "response_rewards": None,
            "reward_terms": "{}",
            "weight": 1.0,
            "agent": "native",
            "model": "Qwen/Qwen3-32B",
            "stop": stop,
            "error": f"the sandbox of {name} did not answer for 120.5 s" if failed else None,
            "patch": patch,
            "timings_s": json.dumps(timings_s),
            "verdict": None if failed or not patch else self._verdict(outcome, name),
        }

    def _verdict(self, outcome: Outcome, name: str) -> dict[str, Any]:
        resolved = outcome is Outcome.RESOLVED
        tests = {f"tests/test_{name}.py::test_{number}": "PASSED" for number in range(40)}
        log = "".join(f"{test} PASSED\n" for test in tests)
        return {
            "resolved": resolved,
            "official_resolved": resolved,
            "patch_applied": True,
            "timed_out": outcome is Outcome.TESTS_HANG,
            "fail_to_pass": json.dumps({f"tests/test_{name}.py::test_fix": "PASSED" if resolved else "FAILED"}),
            "pass_to_pass": json.dumps(tests),
            "fail_to_pass_fraction": float(resolved),
            "pass_to_pass_fraction": 1.0,
            "stripped_files": [],
            "integrity": ["conftest.py changes reports"] if outcome is Outcome.INTEGRITY_VIOLATION else [],
            "twinned": [],
            "twin_s": 0.0,
            "odd_once": [],
            "cause": "",
            "exit_code": 0,
            "test_exit_code": int(not resolved),
            "eval_s": 12.0,
            "starved_s": 0.0,
            "cpu_s": 9.0,
            "wall_s": 30.0,
            "log_tail": log + f"E   KeyError: '{name}'\n" * (not resolved),
        }


class _Skeleton:
    """The token stream of a trajectory: spans of responses, and the columns that have a value per token."""

    def __init__(self, chance: random.Random, tokens: int) -> None:
        self.turns = max(1, int(tokens / TOKENS_PER_TURN * chance.uniform(0.8, 1.2)))
        each = tokens // self.turns
        sampled = max(1, each // 3)
        self._spans = [(number * each + each - sampled, (number + 1) * each) for number in range(self.turns)]
        mask = [False] * tokens
        for start, end in self._spans:
            mask[start:end] = [True] * (end - start)
        logprobs = [-chance.expovariate(3) if one else 0.0 for one in mask]
        self.tokens = (
            f'"token_ids": {json.dumps([chance.randrange(150_000) for _ in mask])}, '
            f'"sampled_mask": {json.dumps(mask)}, "logprobs": {json.dumps(logprobs)}'
        )

    def response(self, number: int, version: int, call: str) -> str:
        """One response as JSON."""
        start, end = self._spans[number]
        return (
            f'{{"start": {start}, "end": {end}, "version": {version}, "finish_reason": "stop", "sample_s": 4.5, '
            f'"entropy": 0.3{number % 10}, "entropy_estimator": "top20", "tool_calls": [{call}], "usage": null}}'
        )


class _Action:
    """One turn: what the policy says and calls, and what comes back."""

    def __init__(self, chance: random.Random) -> None:
        name = f"{chance.choice(_VERBS)}_{chance.choice(_THINGS)}"
        tool, arguments = _call(chance, name)
        lines = [
            f"src/{chance.choice(_THINGS)}.py:{number}:    return self.{name}({chance.choice(_THINGS)}, {number * 7})"
            for number in range(chance.randrange(8, 40))
        ]
        observation = "\n".join(lines)
        thought = f"I look at {name} and at what calls it. " * chance.randrange(2, 8)
        extra = {"tool_calls": [{"type": "function", "function": {"name": tool, "arguments": json.dumps(arguments)}}]}
        self.messages = (
            json.dumps({"role": "assistant", "content": thought, "extra": json.dumps(extra)}),
            json.dumps({"role": "tool", "content": observation, "extra": "{}"}),
        )
        self.call = json.dumps(
            {
                "name": tool,
                "arguments": json.dumps(arguments),
                "status": "malformed" if chance.random() < 0.02 else "ok",
                "converted": 0,
                "observation": observation,
                "exit_code": int(chance.random() < 0.2),
                "timed_out": False,
                "wall_s": 0.4,
            }
        )


def _call(chance: random.Random, name: str) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a tool call."""
    path = f"src/{chance.choice(_THINGS)}.py"
    match chance.randrange(6):
        case 0:
            return "read_file", {"path": path, "start": 1, "end": 80}
        case 1:
            return "edit_file", {"path": path, "old": f"return {name}(x)", "new": f"return {name}(x, default=None)"}
        case 2:
            return "bash", {"command": f"python -m pytest tests/test_{name}.py -x -q 2>&1 | tail -20"}
        case 3:
            return "bash", {"command": "git log --oneline | head -5 && git diff"}
        case _:
            return "bash", {"command": f"grep -rn '{name}' src tests | head -40"}


def _patch(path: str, name: str, lines: int) -> str:
    added = "".join(f"+    if value == {number}: return {name}({number})\n" for number in range(lines))
    return (
        f"diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -1,2 +1,{lines + 2} @@\n def {name}(value):\n"
        f"{added}     return value\n"
    )
