"""`config.json`: which run a directory belongs to, under which settings and versions its trajectories were made."""

import hashlib
import json
import platform
import secrets
from collections.abc import Collection, Iterable, Mapping
from importlib import metadata
from pathlib import Path

from swe_aem import __version__
from swe_aem.core import TaskRecord, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.core.explain import explain
from swe_aem.core.used import changed_extensions
from swe_aem.errors import UserError
from swe_aem.extensions import stored_names
from swe_aem.policy import BYTE_TOKENIZER_NAME
from swe_aem.rollout.config import RolloutConfig, as_stored, differences
from swe_aem.sandbox import host_system
from swe_aem.store import replace
from swe_aem.store.upgrade import FORMAT, upgrade_manifest

FILE = "config.json"
NO_TOKENIZER = "none"
"""Stands for the tokenizer's fingerprint where there are no token ids: of a chat API, and of graded predictions."""
_RECORDED = ("datasets", "renderers", "swebench", "tokenizers", "torch", "transformers")


class Manifest(Frozen):
    """Content of `config.json`."""

    run: str
    """Random id that stays the same over reruns; it labels the run's sandboxes."""
    store_format: int
    """Format of the rows, `swe_aem.store.upgrade`."""
    versions: dict[str, str]
    """Versions of packages in the last process that wrote to the store; `toolchain` is the digest of what embedded
    sandboxes show of the host."""
    config: RolloutConfig
    tasks: dict[str, str]
    """Digest of each task's content by task id, because the content behind a name may change."""
    tokenizer: str | None = None
    """Fingerprint of the tokenizer that all token ids of the store are of, `NO_TOKENIZER` if it has none; None in
    stores of older versions."""
    extensions: dict[str, str] | None = None
    """Setting to the version and hash of what it names, for what is not built in; None in stores of older versions."""

    predictions: dict[str, dict[int, str]] | None = None
    """Task id and sample to the digest of a patch, in a directory of `swe-aem grade`; None in a store."""

    @property
    def wanted(self) -> int:
        """How many trajectories, or verdicts on predictions, the run asks for."""
        if self.predictions is not None:
            return sum(len(samples) for id, samples in self.predictions.items() if id in self.tasks)
        config = self.config
        return len(self.tasks) * (config.group_size + (0 if config.early_completion else config.oversample))

    @property
    def tokenizer_name(self) -> str:
        """Where the run's tokenizer was, for messages."""
        return self.config.tokenizer_path or BYTE_TOKENIZER_NAME


def claim(
    directory: Path,
    config: RolloutConfig,
    records: Iterable[TaskRecord],
    *,
    stored_tasks: Collection[str],
    tokenizer: str,
    extensions: Mapping[str, str] | None = None,
    predictions: dict[str, dict[int, str]] | None = None,
    paid: bool = True,
) -> Manifest:
    """Write `config.json` for a run into `directory`, which its caller has locked.

    `stored_tasks` are the ids of the tasks that have a trajectory there. If there are any, settings and tasks that
    decide what these trajectories mean must not change, nor may the tokenizer, whose fingerprint is given, nor the
    `extensions` (`used_extensions`): raises `UserError` that names what would. Of `predictions`, where that is what is
    graded, none may have changed or be gone. Where nothing is `paid` yet, for the reward function failed on all there
    is, the reward may be another.
    """
    stored = read_manifest(directory)
    tasks = {record.task.id: digest(record) for record in records}
    if stored_tasks:
        if stored is None:
            raise UserError(f"{directory} holds trajectories but no {FILE}; choose another --out")
        if not paid:
            stored = _with_reward(stored, config, extensions or {})
        if found := differences(stored.config, config):
            given = as_stored(stored.config, config)
            raise UserError(
                f"{directory} holds another run: {'; '.join(found)}. Choose another --out, or the same settings"
                f"{f': {given}' if given else ''}{or_recompute(found, directory)}"
            )
        if found := changed_extensions(stored.extensions, extensions or {}):
            raise UserError(
                f"{directory} holds another run: {'; '.join(found)}. Choose another --out, or bring that code back"
                f"{or_recompute(found, directory)}"
            )
        if stored.tokenizer is None:
            raise UserError(unnamed_tokenizer(directory, stored))
        if stored.tokenizer != tokenizer:
            raise UserError(
                f"{directory} holds token ids of the tokenizer {stored.tokenizer}, and {stored.tokenizer_name} is now "
                f"{tokenizer}: choose another --out, or restore the tokenizer"
            )
        changed = [id for id in sorted(stored_tasks) if id in tasks and stored.tasks.get(id) != tasks[id]]
        if changed:
            raise UserError(
                f"{directory} holds trajectories of tasks whose content is now another in {config.tasks}: "
                f"{changed[0]}, {len(changed)} in all. Choose another --out, or restore the tasks"
            )
        if lost := _lost(stored.predictions or {}, predictions or {}):
            raise UserError(
                f"{directory} holds verdicts on other predictions: {lost[0]}, {len(lost)} in all. Choose another "
                "--out, or the same --predictions"
            )
        tasks = {id: stored.tasks[id] for id in stored_tasks if id in stored.tasks} | tasks
    manifest = Manifest(
        run=stored.run if stored else secrets.token_hex(6),
        store_format=FORMAT,
        versions=_versions(config),
        config=config,
        tasks=tasks,
        tokenizer=tokenizer,
        extensions=dict(extensions or {}),
        predictions=predictions,
    )
    replace(directory / FILE, manifest.model_dump_json(indent=2) + "\n")
    return manifest


def or_recompute(found: Collection[str], directory: Path) -> str:
    """What else can be done where nothing but the reward differs."""
    if not all(one.startswith(("reward", "rollout.reward")) for one in found):
        return ""
    return f"; `swe-aem recompute-rewards {directory} --reward NAME --out NEW` makes one with these rewards"


def _with_reward(stored: Manifest, config: RolloutConfig, extensions: Mapping[str, str]) -> Manifest:
    """The manifest with the reward of another configuration."""

    def of_reward(name: str) -> bool:
        return f"{name}.".startswith("reward.")

    kept = {name: identity for name, identity in (stored.extensions or {}).items() if not of_reward(name)}
    given = {name: identity for name, identity in extensions.items() if of_reward(name)}
    changed = stored.config.model_copy(update={"reward": config.reward})
    return stored.model_copy(update={"config": changed, "extensions": kept | given})


def _lost(stored: Mapping[str, Mapping[int, str]], wanted: Mapping[str, Mapping[int, str]]) -> list[str]:
    """What became of predictions that were there before and are no longer, one clause each."""
    return [
        f"the patch of {TrajectoryKey(id, sample)} is {'another' if sample in wanted.get(id, {}) else 'gone'}"
        for id, samples in stored.items()
        for sample, digest in samples.items()
        if wanted.get(id, {}).get(sample) != digest
    ]


def unnamed_tokenizer(directory: Path, manifest: Manifest) -> str:
    """What to say of a store that names no tokenizer."""
    return (
        f"{directory} does not name the tokenizer of its token ids, for an older swe-aem wrote it: name the one that "
        f"it was rolled out with by `swe-aem name-tokenizer {directory} --tokenizer {manifest.tokenizer_name}`"
    )


def digest(record: TaskRecord) -> str:
    """Short hash of what an agent is asked and how it is graded."""
    task, key = record.task, record.key
    content = (
        (task.id, task.base_commit, task.problem_statement),
        (key.test_patch, key.eval_script, key.fail_to_pass, key.pass_to_pass),
    )
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of a directory, None if it has none; raises `UserError` if it cannot be understood. What it names
    need not be installed."""
    path = directory / FILE
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    try:
        with stored_names():
            return Manifest.model_validate(upgrade_manifest(json.loads(text), str(path)))
    except ValueError as error:
        detail = explain(error, Manifest)
        raise UserError(
            f"{path} was not written by this version of swe-aem ({detail}); choose another --out"
        ) from error


def _versions(config: RolloutConfig) -> dict[str, str]:
    versions = {"swe-aem": __version__, "python": platform.python_version()}
    if config.sandbox.type == "bubblewrap":
        versions["toolchain"] = host_system.digest()
    for name in _RECORDED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional part that is not installed
    return versions
