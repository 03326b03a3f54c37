"""Settings: where they come from, what is refused, what a directory holds fast."""

import json
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core import TaskRecord
from swe_aem.core.settings import load
from swe_aem.errors import UserError
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.config import differences
from swe_aem.rollout.manifest import Manifest, claim, read_manifest
from swe_aem.testing.builders import make_record


def test_options_override_the_file_and_assignments_override_options(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("group_size: 2\nlimit: 9\nnative: {max_turns: 5, temperature: 0.5}\n")
    config = load(
        RolloutConfig, file, {"limit": 3, "native.max_turns": 6}, ["native.max_turns=7", "scheduling.starting=1"]
    )
    assert (config.group_size, config.limit, config.native.max_turns, config.native.temperature) == (2, 3, 7, 0.5)
    assert config.scheduling.starting == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"agnet": "gold"}, "agnet"),
        ({"group_size": 0}, "group_size"),
        ({"native.max_turns": "many"}, "native.max_turns"),
        ({"agent": "golden"}, r"agent golden is unknown \(did you mean gold\?\); there are native, .*, the .py file"),
        ({"agent": "native"}, "needs policy: a URL, the path of a model, or one of gold, noop, replay"),
        ({"agent": "openhands"}, "or one of gold, noop$"),
        ({"agent": "replay"}, "needs replay_from"),
        ({"agent": "gold", "policy": "http://x"}, "short for agent native with policy gold"),
        ({"agent": "noop", "replay_from": "d"}, "only for the policy replay"),
        ({"agent": "openhands", "policy": "demo"}, "policy demo is only for agent native"),
        ({"agent": "native", "policy": "http://x"}, "needs tokenizer"),
        ({"agent": "native", "policy": "http://x", "tokenizer": "bytes", "native.top_p": 0.9}, r"native\.top_p 1"),
        ({"early_completion": True}, "needs oversample"),
        ({"scheduling.starting": 0, "time_limit_s": -1}, "time_limit_s.*scheduling.starting"),
    ],
)
def test_wrong_settings_are_refused_by_name(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load(RolloutConfig, None, options)


@pytest.mark.parametrize("name", ["gold", "noop", "demo", "hasty", "replay"])
def test_the_name_of_a_script_is_short_for_the_native_agent_with_it(name: str) -> None:
    more = {"replay_from": "runs/first"} if name == "replay" else {}
    short = load(RolloutConfig, None, {"agent": name, **more})
    assert (
        short
        == load(RolloutConfig, None, {"agent": "native", "policy": name, **more})
        == load(RolloutConfig, None, {"policy": name, **more})
    )
    assert (short.agent, short.policy, short.scripted) == ("native", name, True)
    stored_before_both_were_recorded = {"agent": name, "policy": None, **more}
    assert RolloutConfig.model_validate(stored_before_both_were_recorded) == short
    assert RolloutConfig.model_validate_json(short.model_dump_json()) == short


def test_nothing_said_is_the_gold_patch() -> None:
    assert load(RolloutConfig, None, {}) == load(RolloutConfig, None, {"agent": "gold"})


def test_wrong_files_and_assignments_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.yaml: no such file"):
        load(RolloutConfig, tmp_path / "none.yaml", {})
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="expected a mapping"):
        load(RolloutConfig, tmp_path / "list.yaml", {})
    (tmp_path / "broken.yaml").write_text("a: [\n")
    with pytest.raises(UserError, match=r"broken\.yaml: not YAML"):
        load(RolloutConfig, tmp_path / "broken.yaml", {})
    with pytest.raises(UserError, match="NAME=VALUE"):
        load(RolloutConfig, None, {}, ["native.max_turns"])
    with pytest.raises(UserError, match=r'tasks\.name: tasks is "t" and has no settings'):
        load(RolloutConfig, None, {"tasks": "t"}, ["tasks.name=x"])


BASE = RolloutConfig(group_size=4, limit=10)


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({}, None),
        ({"group_size": 8}, None),
        ({"limit": 20}, None),
        ({"limit": None}, None),
        ({"scheduling": {"concurrency": 64}}, None),
        ({"oversample": 2, "early_completion": True}, None),
        ({"group_size": 3}, "group_size was 4 and is now 3"),
        ({"limit": 9}, "limit was 10 and is now 9"),
        ({"agent": "noop"}, 'policy was "gold" and is now "noop"'),
        ({"tasks": "other.jsonl"}, "tasks was"),
        ({"native": {"temperature": 0.5}}, "native.temperature was 1.0 and is now 0.5"),
        ({"native": {"seed": 1}}, "native.seed"),
        ({"limits": {"memory_bytes": 1 << 30}}, "limits.memory_bytes"),
        ({"sandbox": "docker"}, "sandbox.type was"),
    ],
)
def test_what_a_rerun_may_change(tmp_path: Path, changes: dict[str, Any], refused: str | None) -> None:
    wanted = RolloutConfig(**{"group_size": 4, "limit": 10, **changes})
    first = claim(tmp_path, BASE, (), stored_tasks=(), tokenizer="t")
    if refused is None:
        assert differences(BASE, wanted) == []
        assert claim(tmp_path, wanted, (), stored_tasks=["task-0"], tokenizer="t").run == first.run
        stored = read_manifest(tmp_path)
        assert stored is not None
        assert stored.config == wanted
    else:
        with pytest.raises(UserError, match=refused):
            claim(tmp_path, wanted, (), stored_tasks=["task-0"], tokenizer="t")
        stored = read_manifest(tmp_path)
        assert stored is not None
        assert stored.config == BASE, "a refused rerun changes nothing"


def test_a_directory_without_trajectories_takes_any_settings(tmp_path: Path) -> None:
    claim(tmp_path, BASE, (), stored_tasks=(), tokenizer="t")
    claim(tmp_path, RolloutConfig(agent="noop"), (), stored_tasks=(), tokenizer="t")
    stored = read_manifest(tmp_path)
    assert stored is not None
    assert (stored.config.agent, stored.config.policy) == ("native", "noop")


@pytest.mark.parametrize("change", ["problem_statement", "test_patch", "base_commit"])
def test_a_stored_task_whose_content_changes_under_its_name_is_refused(tmp_path: Path, change: str) -> None:
    def changed(record: TaskRecord) -> TaskRecord:
        part = "key" if change == "test_patch" else "task"
        return record.model_copy(update={part: getattr(record, part).model_copy(update={change: "other"})})

    old = [make_record("task-0"), make_record("task-1")]
    claim(tmp_path, BASE, old, stored_tasks=(), tokenizer="t")
    grown = [old[0], changed(old[1]), make_record("task-2")]
    claim(tmp_path, BASE, grown, stored_tasks=["task-0"], tokenizer="t")  # nothing was made from task-1 yet
    claim(tmp_path, BASE, grown, stored_tasks=["task-0", "task-1", "task-2"], tokenizer="t")
    with pytest.raises(UserError, match="task-0, 1 in all"):
        claim(tmp_path, BASE, [changed(old[0]), *grown[1:]], stored_tasks=["task-0", "task-1"], tokenizer="t")


def test_nothing_is_added_to_a_store_of_another_tokenizer_or_of_none_that_it_names(tmp_path: Path) -> None:
    claim(tmp_path, BASE, (), stored_tasks=(), tokenizer="old")
    claim(tmp_path, BASE, (), stored_tasks=(), tokenizer="first")  # nothing is there yet
    with pytest.raises(UserError, match=r"ids of the tokenizer first, and bytes is now other: choose another --out"):
        claim(tmp_path, BASE, (), stored_tasks=["task-0"], tokenizer="other")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tokenizer": None}))
    with pytest.raises(
        UserError, match=r"does not name the tokenizer .* `swe-aem name-tokenizer .* --tokenizer bytes`"
    ):
        claim(tmp_path, BASE, (), stored_tasks=["task-0"], tokenizer="first")


def test_nothing_is_added_to_a_store_that_other_code_made(tmp_path: Path) -> None:
    def again(extensions: dict[str, str]) -> Manifest:
        return claim(tmp_path, BASE, (), stored_tasks=["task-0"], tokenizer="t", extensions=extensions)

    claim(tmp_path, BASE, (), stored_tasks=(), tokenizer="t", extensions={"agent": "mine 1.0, sha256:a", "x": "y"})
    assert again({"agent": "mine 1.0, sha256:a", "x": "y"}).extensions == {"agent": "mine 1.0, sha256:a", "x": "y"}
    with pytest.raises(UserError) as error:
        again({"agent": "mine 1.1, sha256:b", "family": "sha256:c"})
    assert str(error.value) == (
        f"{tmp_path} holds another run: agent was the code of mine 1.0, sha256:a and is now the code of mine 1.1, "
        "sha256:b; family was built in and is now the code of sha256:c; x was the code of y and is now built in. "
        "Choose another --out, or bring that code back"
    )
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "extensions": None}))
    assert again({"family": "sha256:c"}).extensions == {"family": "sha256:c"}, "an older version recorded nothing"


def test_a_store_from_before_the_families_says_with_which_settings_it_resumes(tmp_path: Path) -> None:
    """Its family and its thinking are written out, where they are chosen from the model's files today."""
    claim(tmp_path, BASE, (), stored_tasks=(), tokenizer="t")
    file = tmp_path / "config.json"
    written = json.loads(file.read_text())
    written["config"]["renderer"] = {"family": "qwen3", "enable_thinking": True}
    file.write_text(json.dumps({**written, "store_format": 6}))
    with pytest.raises(UserError) as refused:
        claim(tmp_path, BASE, (), stored_tasks=["task-0"], tokenizer="t")
    assert str(refused.value) == (
        f"{tmp_path} holds another run: renderer.enable_thinking was true and is now null; renderer.family was "
        '"qwen3" and is now "auto". Choose another --out, or the same settings: --set renderer.enable_thinking=true '
        "--set renderer.family=qwen3"
    )
    given = str(refused.value).partition("settings: --set ")[2].split(" --set ")
    same = load(RolloutConfig, None, BASE.model_dump(exclude_unset=True), given)
    assert claim(tmp_path, same, (), stored_tasks=["task-0"], tokenizer="t").config.renderer.family == "qwen3"


def test_a_store_without_its_config_is_not_claimed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no config\.json"):
        claim(tmp_path, BASE, (), stored_tasks=["task-0"], tokenizer="t")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "not written by this version"),
        ("{", "not written by this version"),
        ("[]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('{"store_format": "3"}', "store_format is '3', not a whole number"),
    ],
)
def test_a_config_that_cannot_be_read_is_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=said):
        claim(tmp_path, BASE, (), stored_tasks=(), tokenizer="t")


def test_the_manifest_names_versions(tmp_path: Path) -> None:
    claim(tmp_path, BASE, (), stored_tasks=(), tokenizer="t")
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert {"swe-aem", "python", "swebench", "toolchain"} <= set(manifest.versions)


def test_a_rerun_may_change_a_harness_processes_and_not_its_options() -> None:
    def config(**harness: Any) -> RolloutConfig:
        return RolloutConfig.model_validate({"agent": "openhands", "policy": "gold", "harness": harness})

    assert differences(config(), config(workers=3, conversations=5)) == []
    assert differences(config(), config(options={"fake_replies": 1})) == [
        "harness.options.fake_replies was null and is now 1"
    ]
