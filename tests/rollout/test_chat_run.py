"""A rollout with a chat policy: no tokenizer, no token ids, and what its store can be used for."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from swe_aem.cli import app
from swe_aem.core import TrajectoryKey
from swe_aem.errors import UserError
from swe_aem.rollout import (
    RolloutComponents,
    RolloutConfig,
    RolloutRun,
    claim,
    components,
    name_tokenizer,
    open_components,
    read_manifest,
    require_tokenizer,
    store_tokenizer,
)
from swe_aem.rollout.components import StoredTrajectories
from swe_aem.rollout.recompute import recompute_rewards
from swe_aem.store import Store
from swe_aem.tasks import TaskSet
from swe_aem.testing.builders import make_record, make_trajectory
from swe_aem.testing.chat import ScriptedChat, calls
from swe_aem.train.config import TrainConfig
from swe_aem.train.sft import SFTConfig, collect
from tests.rollout.fakes import Bench

REPLIES = [calls(("bash", {"command": "cat x"}), content="I look."), calls(("submit", {}))]
API = {"type": "chat", "url": "http://127.0.0.1:1", "model": "some-model"}
REFUSED = "has no token ids, for .* is a chat API, which reports none"


class Chatty(ScriptedChat):
    """Looks and submits."""

    def __init__(self) -> None:
        super().__init__(REPLIES, name="chatty-1")


def chatting(context: Any, record: Any, sample: int) -> ScriptedChat:
    return Chatty()


async def roll_out(bench: Bench, policy: str) -> Store:
    """A store of the native agent with a policy, over fakes of sandbox and grader."""

    @asynccontextmanager
    async def opened(config: RolloutConfig, tasks: TaskSet) -> AsyncIterator[RolloutComponents]:
        async with open_components(config, tasks) as real:
            fakes = bench.components()
            parts = {name: getattr(fakes, name) for name in ("grader", "prepare", "capture", "workspace")}
            yield dataclasses.replace(real, **parts)

    bench.settings = {"agent": "native", "policy": policy}
    tasks, store = TaskSet("fakes", tuple(bench.records)), Store(bench.directory)
    run = RolloutRun(bench.config(), tasks, store, backend=bench.backend, open_components=opened, brief=True)
    with run as rollout:
        await rollout.run()
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store of two tasks that was made without a tokenizer. Tests only read it."""

    def no_tokenizer(path: str | None) -> Any:
        raise AssertionError("a chat policy needs no tokenizer")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(components, "load_tokenizer", no_tokenizer)
        patched.setattr(store_tokenizer, "tokenizer_fingerprint", no_tokenizer)
        made = Bench(tmp_path_factory.mktemp("chat") / "out", [make_record(f"task-{n}") for n in range(2)])
        return asyncio.run(roll_out(made, "tests.rollout.test_chat_run:Chatty"))


def test_the_store_has_usage_and_names_no_tokenizer(store: Store) -> None:
    manifest = read_manifest(store.directory)
    assert manifest is not None
    assert manifest.tokenizer == "none"
    stored = list(store.trajectories())
    assert [(one.token_exact, one.token_ids, len(one.responses), one.model) for one in stored] == [
        (False, (), 2, "chatty-1")
    ] * 2
    usages = [response.used for one in stored for response in one.responses]
    summary = json.loads((store.directory / "summary.json").read_text())
    assert (summary["resolved"], summary["turns"], summary["malformed_calls"]) == (2, 4, 0)
    assert summary["sampled_tokens"] == sum(usage.completion_tokens for usage in usages) > 0
    assert summary["tokens"] == sum(one.responses[-1].used.tokens for one in stored)


async def test_a_rerun_resumes(store: Store) -> None:
    records = [make_record(f"task-{n}") for n in range(2)]
    await roll_out(Bench(store.directory, records), "tests.rollout.test_chat_run:Chatty")
    assert len(list(store.trajectories())) == 2


def test_it_is_evaluated_audited_exported_and_paid_anew(store: Store, tmp_path: Path) -> None:
    def said(*words: object) -> str:
        done = CliRunner().invoke(app, [str(word) for word in words])
        assert done.exit_code == 0, done.output
        return done.stdout

    report = json.loads(said("eval", store.directory, "--json"))
    report = report[0] if isinstance(report, list) else report
    assert '"sampled_tokens_per_resolved"' in json.dumps(report)
    assert said("audit", store.directory)
    assert "2 predictions" in said("export", "preds", store.directory, "--out", tmp_path / "preds.json")
    paid = recompute_rewards(store.directory, "turn_cost", tmp_path / "paid")
    assert paid.trajectories == 2
    assert [one.responses for one in Store(tmp_path / "paid").trajectories()] == [
        one.responses for one in store.trajectories()
    ]


async def test_what_needs_token_ids_refuses_in_one_line(store: Store, tmp_path: Path) -> None:
    def refused(do: Any) -> None:
        with pytest.raises(UserError, match=REFUSED) as error:
            do()
        assert str(store.directory) in str(error.value)
        assert "\n" not in str(error.value)

    refused(lambda: collect([store.directory], Path("configs/quickstart/policy"), SFTConfig()))
    refused(lambda: require_tokenizer(store.directory, None))
    refused(lambda: name_tokenizer(store.directory, None))
    again = RolloutConfig(agent="replay", replay_from=store.directory)
    with pytest.raises(UserError, match=REFUSED):
        async with open_components(again, TaskSet("fakes", ())):
            pass
    with pytest.raises(ValidationError, match="only what a model samples can be trained on"):
        TrainConfig.model_validate({"model": "m", "steps": 1, "groups_per_step": 1, "rollout": {"policy": API}})


@pytest.mark.torch
def test_advantages_are_not_replayed(store: Store) -> None:
    pytest.importorskip("torch", reason="needs the transformers extra")
    from swe_aem.train.analysis.stored import read_trajectories

    with pytest.raises(UserError, match=REFUSED):
        read_trajectories(store.directory)


def test_the_refusal_calls_a_chat_api_by_its_model(tmp_path: Path) -> None:
    config = RolloutConfig.model_validate({"agent": "native", "policy": API})
    with Store(tmp_path).writer() as writer:
        writer.append(make_trajectory("t", 0))
    claim(tmp_path, config, [], stored_tasks=[], tokenizer="none")
    with pytest.raises(UserError, match="no token ids, for some-model is a chat API"):
        require_tokenizer(tmp_path, None)


async def test_a_policy_made_for_each_attempt_is_found_out_by_its_trajectories(bench: Any) -> None:
    store = await roll_out(bench(1), "tests.rollout.test_chat_run:chatting")
    with pytest.raises(UserError, match=REFUSED):
        StoredTrajectories(store)[TrajectoryKey("task-0", 0)]


def test_a_chat_api_needs_no_tokenizer_and_takes_a_nucleus() -> None:
    config = RolloutConfig.model_validate({"agent": "native", "policy": API, "native": {"top_p": 0.9}})
    assert config.tokenizer_path is None
    with pytest.raises(ValidationError, match="a chat API needs no tokenizer"):
        RolloutConfig.model_validate({"agent": "native", "policy": "litellm:x", "tokenizer": "bytes"})
