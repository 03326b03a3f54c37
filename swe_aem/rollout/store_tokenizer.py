"""Which tokenizer the token ids of a store are of: read with another one they are other text, often without error."""

import json
from collections.abc import Mapping
from pathlib import Path

from swe_aem.core import Trajectory
from swe_aem.errors import UserError
from swe_aem.policy import BYTE_TOKENIZER_NAME, load_tokenizer, takes_messages, tokenizer_fingerprint
from swe_aem.rollout.config import RolloutConfig
from swe_aem.rollout.manifest import FILE, NO_TOKENIZER, read_manifest, unnamed_tokenizer
from swe_aem.store import existing_store, locked, replace


def run_tokenizer(config: RolloutConfig) -> str:
    """The fingerprint of a run's tokenizer, `NO_TOKENIZER` where its policy takes messages. Raises `UserError` if there
    is no tokenizer."""
    return NO_TOKENIZER if takes_messages(config.policy) else tokenizer_fingerprint(config.tokenizer_path)


def require_token_ids(directory: Path, trajectory: Trajectory) -> None:
    """Raise `UserError` if a trajectory of the store in `directory` has no token ids, for a chat API gave it."""
    if not trajectory.token_exact:
        raise UserError(_no_token_ids(directory, trajectory.model))


def require_tokenizer(directory: Path, path: str | None) -> None:
    """Raise `UserError` unless the store in `directory` has token ids of the tokenizer at `path` (None: the byte
    tokenizer): it has another's, or does not say whose."""
    existing_store(directory)
    manifest = read_manifest(directory)
    if manifest is None:
        raise UserError(_no_manifest(directory))
    if manifest.tokenizer is None:
        raise UserError(unnamed_tokenizer(directory, manifest))
    if manifest.tokenizer == NO_TOKENIZER:
        raise UserError(_no_token_ids(directory, _model(manifest.config)))
    wanted = tokenizer_fingerprint(path)
    if manifest.tokenizer != wanted:
        raise UserError(
            f"{directory} holds token ids of the tokenizer {manifest.tokenizer} ({manifest.tokenizer_name}), and that "
            f"of {path or BYTE_TOKENIZER_NAME} is {wanted}: give the one that the store was rolled out with, or a "
            f"store that was rolled out with --tokenizer {path or BYTE_TOKENIZER_NAME}"
        )


def name_tokenizer(directory: Path, path: str | None) -> str:
    """Write the fingerprint of the tokenizer at `path` (None: the byte tokenizer) into the `config.json` of a store
    that names none; returns it. Raises `UserError` if the store names another, or has ids that this one lacks."""
    store = existing_store(directory)
    with locked(directory):
        manifest = read_manifest(directory)
        if manifest is None:
            raise UserError(_no_manifest(directory))
        if manifest.tokenizer is not None:
            require_tokenizer(directory, path)
            return manifest.tokenizer
        size = len(load_tokenizer(path))
        for trajectory in store.trajectories():
            if max(trajectory.token_ids, default=0) >= size:
                raise UserError(
                    f"{trajectory.id} has the token id {max(trajectory.token_ids)}, and {path or BYTE_TOKENIZER_NAME} "
                    f"has {size} ids: name the tokenizer that the store was rolled out with"
                )
        file = directory / FILE
        content = json.loads(file.read_text(encoding="utf-8"))
        content["tokenizer"] = tokenizer_fingerprint(path)
        replace(file, json.dumps(content, indent=2) + "\n")
        return content["tokenizer"]


def _model(config: RolloutConfig) -> str:
    """What a person calls the policy: the model behind a chat API, or the policy's own name."""
    setting = config.policy
    return str(setting.get("model", config.policy_name)) if isinstance(setting, Mapping) else setting


def _no_token_ids(directory: Path, policy: str) -> str:
    return (
        f"{directory} has no token ids, for {policy} is a chat API, which reports none: it can be evaluated, audited "
        "and exported, not trained on or replayed. Roll out with a completions server or the directory of a model"
    )


def _no_manifest(directory: Path) -> str:
    store = directory / "rollouts"
    fix = f"name the store {store}" if store.is_dir() else "copy it from the --out of the rollout"
    return f"{directory} has no {FILE}, which names the tokenizer of its token ids: {fix}"
