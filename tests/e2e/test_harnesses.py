"""Real harnesses, real sandboxes, real tasks: a scripted policy resolves them, and what is stored can be trained on.

Of each group the first member plays the gold patch through the harness's tools, the second hands in nothing.
"""

import base64
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from swe_aem.core import Completion, Outcome, Policy, SamplingParams, Stop, TaskRecord, Trajectory
from swe_aem.core.settings import check
from swe_aem.harness import install, read_harness_spec
from swe_aem.policy import scripted
from swe_aem.rollout import (
    RolloutComponents,
    RolloutConfig,
    RolloutRun,
    chosen_tasks,
    open_components,
    script_tools,
    turn_renderer,
)
from swe_aem.store import Store
from swe_aem.testing.chat import ScriptedChat, calls
from swe_aem.testing.steps import ScriptedSteps
from swe_aem.train.config import TrainConfig
from tests.conftest import require_harness
from tests.e2e.conftest import REPOSITORY
from tests.harness.newest import NEWEST, install_newest
from tests.walk import walk

pytestmark = pytest.mark.slow

OLDER = ("openhands-sdk==1.34.0", "openhands-tools==1.34.0")
"""What openhands-ai 1.11.0 pins."""
SMALL = "configs/quickstart/policy"


class Recorded:
    """Plays a policy, and keeps what each trajectory was asked and said."""

    def __init__(self, policy: Policy, kept: dict[str, list[tuple[list[int], list[int]]]]) -> None:
        self.name = policy.name
        self._policy, self._kept = policy, kept

    async def sample(self, prompt_ids: Sequence[int], params: SamplingParams, *, trajectory_id: str) -> Completion:
        completion = await self._policy.sample(prompt_ids, params, trajectory_id=trajectory_id)
        self._kept[trajectory_id].append((list(prompt_ids), list(completion.token_ids)))
        return completion

    async def close(self) -> None:
        await self._policy.close()


RollOut = Callable[..., Any]


@pytest.fixture
def groups(tmp_path: Path) -> RollOut:
    """Rolls out groups of gold and no-op, or what `script` makes; returns the trajectories by id, after checking them
    token by token."""

    async def run(
        script: Callable[..., Policy] | None = None,
        exact: Callable[[Trajectory, list[tuple[list[int], list[int]]]], None] = check_exact,
        **settings: Any,
    ) -> dict[str, Trajectory]:
        config = check(
            RolloutConfig,
            {
                "policy": "gold",
                "group_size": 2,
                "tokenizer": SMALL,
                "twins": False,
                "native": {"max_context_tokens": 100_000},
                **settings,
            },
        )
        renderer, tools = turn_renderer(config), script_tools(config)
        kept: dict[str, list[tuple[list[int], list[int]]]] = defaultdict(list)

        def policies(record: TaskRecord, sample: int) -> Policy:
            if script is not None:
                return Recorded(script(record, renderer, tools), kept)
            return Recorded(scripted.noop(renderer, tools) if sample else scripted.gold(record, renderer, tools), kept)

        @asynccontextmanager
        async def components(config: Any, tasks: Any) -> AsyncIterator[RolloutComponents]:
            async with open_components(config, tasks) as opened:
                yield replace(opened, policies=policies)

        store = Store(tmp_path / "out")
        with RolloutRun(config, chosen_tasks(config), store, open_components=components) as rollout:
            await rollout.run()
        stored = {trajectory.id: trajectory for trajectory in store.trajectories()}
        for id, trajectory in stored.items():
            exact(trajectory, kept[id])
        return stored

    return run


def check_exact(trajectory: Trajectory, asked: list[tuple[list[int], list[int]]]) -> None:
    """One stream, in which every response stands behind exactly the prompt that it was sampled from."""
    ids = list(trajectory.token_ids)
    assert [(ids[: one.start], ids[one.start : one.end]) for one in trajectory.responses] == asked
    assert trajectory.responses[-1].end == len(ids)
    assert trajectory.branches == ()
    assert trajectory.stop is Stop.SUBMITTED


def check_streams(trajectory: Trajectory, asked: list[tuple[list[int], list[int]]]) -> None:
    """Every response is in one stream, behind exactly the prompt that it was sampled from."""
    found = [
        (list(stream.token_ids[: one.start]), list(stream.token_ids[one.start : one.end]))
        for stream in (trajectory, *trajectory.branches)
        for one in stream.responses
    ]
    assert sorted(found) == sorted(asked)


def check_outcomes(stored: dict[str, Trajectory], tasks: int) -> None:
    outcomes = {sample: {one.outcome for one in stored.values() if one.sample == sample} for sample in (0, 1)}
    assert outcomes == {0: {Outcome.RESOLVED}, 1: {Outcome.EMPTY_PATCH}}
    assert len(stored) == 2 * tasks


@pytest.mark.parametrize(
    "agent",
    [
        "mini-swe-agent",
        "openhands",
        *(pytest.param(one, marks=pytest.mark.nightly) for one in ("claude-code", "codex", "opencode")),
    ],
)
async def test_gold_resolves_through_its_tools_and_the_group_trains(
    agent: str, kind: str, groups: RollOut, tmp_path: Path
) -> None:
    require_harness(agent)
    stored = await groups(agent=agent, sandbox=kind, limit=2)
    check_outcomes(stored, 2)
    if kind == "bubblewrap":
        one = next(iter(stored.values())).task_id
        train_one_step([trajectory for trajectory in stored.values() if trajectory.task_id == one], tmp_path)


async def test_the_sdk_that_openhands_ai_pins(require_bubblewrap: None, groups: RollOut) -> None:
    require_harness("openhands", *OLDER)
    check_outcomes(await groups(agent="openhands", harness={"pins": OLDER}, limit=1), 1)


def working(record: TaskRecord, renderer: Any, tools: Any) -> Policy:
    """Thinks, and does what agents do: fails, prints much and oddly, calls two tools at once, breaks the format, calls
    what is not there; then applies the gold patch."""
    gold = scripted.gold(record, renderer, tools)
    commands = ["false", "seq 20000; printf '\\377\\x1b[31m<|im_end|>\\u00e9\\n'", "cat missing", "git status --short"]
    made = [
        {
            "role": "assistant",
            "reasoning_content": f"I think of {number}.\n\nAnd twice.",
            "content": "Look:" if number % 2 else "",
            "tool_calls": [
                {"type": "function", "function": {"name": tools.shell, "arguments": tools.run(command)}}
                for command in commands[number : number + 2]
            ],
        }
        for number in range(len(commands))
    ]
    nowhere = scripted.call("I try.", "nowhere", {"a": [1.0, None, {"b": "\u00fc"}]})
    played = scripted.scripted("working", [*made, nowhere], renderer, tools)
    broken = renderer.tokenizer.encode(
        f'<tool_call>\n{{"name": "{tools.shell}", "arguments": {{"x\n</tool_call><|im_end|>'
    )
    completion = Completion(token_ids=tuple(broken), logprobs=(-0.5,) * len(broken), finish_reason="stop")
    script = [*played._script, completion, *gold._script]
    return scripted.ScriptedPolicy("working", script, gold._ending)


@pytest.mark.parametrize(
    "agent", ["codex", *(pytest.param(one, marks=pytest.mark.nightly) for one in ("claude-code", "opencode"))]
)
async def test_a_long_conversation_in_the_sandbox_is_exact(
    agent: str, require_bubblewrap: None, groups: RollOut
) -> None:
    require_harness(agent)
    (trajectory,) = (
        await groups(script=working, agent=agent, limit=1, group_size=1, renderer={"enable_thinking": True})
    ).values()
    assert trajectory.outcome is Outcome.RESOLVED
    assert len(trajectory.responses) == 8


def patching(record: TaskRecord, renderer: Any, tools: Any) -> Policy:
    """Uses Codex' tool of free text rightly, with other arguments and with no patch; then the gold patch."""
    gold = scripted.gold(record, renderer, tools)
    patch = '*** Begin Patch\n*** Add File: /tmp/x\n+it\'s "here" \\u00e9 \u00e9\n*** End Patch'
    given: list[dict[str, Any]] = [{"input": patch}, {"patch": patch}, {"input": "none"}]
    calls = [scripted.call("I patch.", "apply_patch", one) for one in given]
    calls.append(scripted.call("I look.", tools.shell, tools.run("cat /tmp/x")))
    made = scripted.scripted("patching", calls, renderer, tools)
    return scripted.ScriptedPolicy("patching", [*made._script, *gold._script], gold._ending)


@pytest.mark.nightly
async def test_codex_takes_patches_as_free_text(require_bubblewrap: None, groups: RollOut) -> None:
    require_harness("codex")
    harness = {"options": {"model": "gpt-5.5"}}
    (trajectory,) = (await groups(script=patching, agent="codex", limit=1, group_size=1, harness=harness)).values()
    assert trajectory.outcome is Outcome.RESOLVED
    assert 'it\'s "here" \\u00e9 \u00e9\n' in trajectory.responses[3].tool_calls[0].observation


@pytest.mark.nightly
@pytest.mark.timeout(1200)
async def test_the_newest_sdk_resolves_and_its_group_trains(
    require_bubblewrap: None, groups: RollOut, tmp_path: Path
) -> None:
    install_newest()
    stored = await groups(agent="openhands", harness={"pins": NEWEST}, limit=1)
    check_outcomes(stored, 1)
    train_one_step(list(stored.values()), tmp_path)


def solving(context: Any, record: TaskRecord, sample: int) -> ScriptedChat:
    """A chat API that breaks its format once, looks and applies the gold patch in one response, and hands in."""
    patch = base64.b64encode(record.key.gold_patch.encode()).decode()
    shell = context.tools.shell
    apply = {"command": f"echo {patch} | base64 -d | git apply"}
    broken = calls((shell, '{"command": "ls'))
    return ScriptedChat([broken, calls((shell, {"command": "ls"}), (shell, apply)), calls(context.tools.finish)])


@pytest.mark.nightly
@pytest.mark.parametrize("agent", ["mini-swe-agent", "openhands"])
async def test_a_chat_api_resolves_through_its_tools(agent: str, require_bubblewrap: None, tmp_path: Path) -> None:
    require_harness(agent)
    settings = {"agent": agent, "policy": "tests.e2e.test_harnesses:solving", "limit": 1}
    config, store = check(RolloutConfig, settings), Store(tmp_path / "out")
    with RolloutRun(config, chosen_tasks(config), store) as rollout:
        await rollout.run()
    (trajectory,) = store.trajectories()
    assert (trajectory.outcome, trajectory.token_exact, trajectory.token_ids) == (Outcome.RESOLVED, False, ())
    found = [call.status for one in trajectory.all_responses for call in one.tool_calls]
    assert sorted(found) == ["malformed", "ok", "ok", "ok"]


def train_one_step(group: list[Trajectory], directory: Path) -> None:
    """One update of a tiny model on a group of two, which changes it."""
    torch = pytest.importorskip("torch", reason="needs the train extra")
    trl = pytest.importorskip("trl", reason="needs the train extra")
    from datasets import Dataset

    from swe_aem.advantage.config import AEMConfig
    from swe_aem.policy.tokenizer import load_tokenizer
    from swe_aem.testing.steps import tiny_model, tiny_tokenizer
    from swe_aem.train.grpo import AgentGRPOTrainer
    from swe_aem.train.training_row import training_row

    rows = [{**training_row(trajectory), "place": place, "trajectory": place} for place, trajectory in enumerate(group)]
    assert sorted(row["reward"] for row in rows) == [0.0, 1.0]
    longest = max(len(trajectory.token_ids) for trajectory in group)
    shape = {"num_hidden_layers": 1, "num_attention_heads": 1, "head_dim": 8, "hidden_size": 16}
    model = tiny_model(vocab_size=len(load_tokenizer(SMALL)), max_position_embeddings=longest, **shape)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    settings = {
        "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "num_generations": 2, "max_steps": 1,
        "max_completion_length": longest, "learning_rate": 0.01, "use_cpu": True, "bf16": False, "report_to": "none",
        "gradient_checkpointing": False, "save_strategy": "no", "disable_tqdm": True, "scale_rewards": "none",
    }  # fmt: skip
    trainer = AgentGRPOTrainer(
        model=model,
        args=trl.GRPOConfig(output_dir=str(directory / "trained"), **settings),
        train_dataset=Dataset.from_list([{"prompt": "<5>"}] * 2),
        processing_class=tiny_tokenizer(),
        rollout_func=lambda prompts, trainer: {name: [row[name] for row in rows] for name in rows[0]},
        advantage=AEMConfig(),
    )
    trainer.train()
    assert any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))


@pytest.mark.nightly
async def test_a_sub_agent_and_a_condensed_history_are_trained_on(
    require_bubblewrap: None, groups: RollOut, tmp_path: Path
) -> None:
    """From a harness that makes both, over the store, to the weights."""
    pytest.importorskip("trl", reason="needs the train extra")
    from swe_aem.train.loop import train
    from swe_aem.train.records import read_metrics
    from swe_aem.train.steps import Step

    agent = str(REPOSITORY / "tests" / "harness" / "condensing_agent.py")
    install(read_harness_spec(agent))
    stored = await groups(exact=check_streams, agent=agent, limit=1)
    resolved, empty = sorted(stored.values(), key=lambda one: one.sample)
    assert [one.outcome for one in (resolved, empty)] == [Outcome.RESOLVED, Outcome.EMPTY_PATCH]
    assert [(len(one.responses), one.by_agent) for one in resolved.branches] == [(1, True), (1, True)]
    assert empty.branches == ()

    class Stored(ScriptedSteps):
        def step(self, number: int) -> Step:
            return Step(number=number, groups=((resolved, empty),))

    values = {"model": str(REPOSITORY / SMALL), "steps": 1, "groups_per_step": 1, "heldout": None, "device": "cpu"}
    rollout = {"group_size": 2, "agent": agent, "native": {"max_context_tokens": 4096}}
    settings = {"rollout": rollout, "token_budget": 4096, "branches_per_trajectory": 2}
    train(check(TrainConfig, {**values, **settings}), tmp_path / "trained", Stored)
    (line,) = read_metrics(tmp_path / "trained")
    assert line.branch_row_share == 0.5
    assert line.branch_share is not None
    assert 0 < line.branch_share < 0.5
    assert line.branch_token_share == pytest.approx(line.branch_share)
    assert line.grad_norm is not None
    assert line.grad_norm > 0


def test_a_policy_is_trained_in_a_harness(require_bubblewrap: None, tmp_path: Path) -> None:
    pytest.importorskip("trl", reason="needs the train extra")
    harness = tmp_path / "my_agent.py"
    harness.write_text(walk().harness)
    rollout = {
        "agent": str(harness), "tasks": "tasks/nano", "split": "train", "group_size": 2, "time_limit_s": 60,
        "native": {"max_turns": 2, "max_response_tokens": 48, "max_context_tokens": 1024},
        "renderer": {"enable_thinking": False}, "scheduling": {"concurrency": 8},
    }  # fmt: skip
    config = {"model": str(REPOSITORY / SMALL), "steps": 1, "groups_per_step": 2, "micro_batch_size": 4}
    file, out = tmp_path / "config.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump({**config, "heldout": None, "compact_filtering": False, "rollout": rollout}))
    for words in (["harness", "install", str(harness)], ["train", str(file), "--out", str(out)]):
        command = [sys.executable, "-m", "swe_aem", *words]
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=280, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    stored = list(Store(out / "rollouts").trajectories())
    assert {(one.agent, one.model) for one in stored} == {("my_agent", "policy")}
    assert all(one.responses and not one.branches and one.error is None for one in stored)
    assert len(stored) == 4
    assert (out / "policy" / "model.safetensors").exists()
