"""Records of older formats, brought to the present one: one function per kind of record, on plain JSON values.

`FORMAT` counts the layouts of everything that a run writes: a store's rows, `config.json` and `summary.json`, and a
training run's `metrics.jsonl`, `heldout.jsonl` and `summary.json`. What is older than `OLDEST`, or newer than `FORMAT`,
is refused. A store of an older format is read and never appended to, so no store mixes two.

    3  commit 9d8487e; its summaries and training records carry no number
    4  `side_chains` became `branches`; agent and policy are recorded apart; metrics and settings by the field's words;
       `rewards/resolved/*` are no longer written, for they repeat `reward` and `reward_std`; verdicts have `cause`,
       `test_exit_code`, `starved_s` and `cpu_s`, tool calls have `converted`
    5  `config.json` has the fingerprint of the tokenizer; `importance/capped_share` became `importance/high_share`, and
       a training run's settings have `importance_sampling`
    6  verdicts have `official_resolved`, `twinned` and `twin_s`; logs of evaluations are kept beside the rows
    7  trajectories have `response_rewards` and `reward_terms`
    8  responses have `usage`, branches `messages`: a chat API reports no token ids; verdicts have `odd_once`
    9  responses have `spans`: several versions of the weights may sample one
    10  trajectories have `routed_experts`
    11  branches have `by_agent`; before, none is known to be
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swe_aem.errors import UserError

FORMAT = 11
"""What is written."""
OLDEST = 3
"""The oldest that is read."""

Record = Mapping[str, Any]

_ROW_NAMES = {"side_chains": "branches"}
_STEP_NAMES = {
    "wait_s": "rollout_wait_s",
    "aem/gated_share": "aem/unmodulated_share",
    "importance/capped_share": "importance/high_share",
}
_NEW_IN_VERDICTS = {
    "cause": "",
    "test_exit_code": None,
    "starved_s": 0.0,
    "cpu_s": None,
    "official_resolved": None,
    "twinned": [],
    "twin_s": 0.0,
    "odd_once": [],
}
_NEW_IN_RESPONSES: Record = {"usage": None, "spans": []}
_NEW_IN_ROWS = {"response_rewards": None, "reward_terms": "{}", "routed_experts": []}
_SCRIPTS = ("gold", "noop", "replay", "demo", "hasty")


def require_readable(format: int, where: str) -> None:
    """Raise `UserError` unless records of this format can be read; `where` says which records they are."""
    if format > FORMAT:
        raise UserError(
            f"{where}: format {format} was written by a newer swe-aem, and this one reads up to {FORMAT}: update it"
        )
    if format < OLDEST:
        raise UserError(
            f"{where}: format {format} is older than {OLDEST}, the oldest that this swe-aem reads; read it with the "
            "version that wrote it"
        )


def require_resumable(format: int, directory: Path) -> None:
    """Raise `UserError` unless what was written in this format into `directory` can be added to."""
    if format != FORMAT:
        raise UserError(
            f"{directory} was written by an older swe-aem (format {format}, now {FORMAT}): it can be read, not "
            "resumed. Choose another --out"
        )


def upgrade_row(row: Record) -> dict[str, Any]:
    """A line of a store's `trajectories/*.jsonl`, whose format its reader has checked."""
    renamed = {**_NEW_IN_ROWS, **_renamed(row, _ROW_NAMES)}
    renamed["responses"] = [{**_NEW_IN_RESPONSES, **response} for response in renamed["responses"]]
    verdict = renamed.get("verdict")
    return renamed if verdict is None else {**renamed, "verdict": {**_NEW_IN_VERDICTS, **verdict}}


def upgrade_manifest(manifest: Record, where: str) -> dict[str, Any]:
    """A store's `config.json`. `store_format` stays as written: it says of what format the rows are."""
    _require_readable_record(manifest, "store_format", where)
    config = manifest.get("config")
    if not isinstance(config, Mapping) or config.get("agent") not in _SCRIPTS or config.get("policy") is not None:
        return dict(manifest)
    return {**manifest, "config": {**config, "agent": "native", "policy": config["agent"]}}


def upgrade_store_summary(summary: Record, where: str) -> dict[str, Any]:
    """A store's `summary.json`."""
    return _upgraded(summary, where, {})


def upgrade_step(line: Record, where: str) -> dict[str, Any]:
    """A line of `metrics.jsonl`."""
    return _upgraded(line, where, _STEP_NAMES)


def upgrade_heldout(line: Record, where: str) -> dict[str, Any]:
    """A line of `heldout.jsonl`."""
    return _upgraded(line, where, {})


def upgrade_summary(summary: Record, where: str) -> dict[str, Any]:
    """A training run's `summary.json`."""
    return _upgraded(summary, where, {})


def _upgraded(record: Record, where: str, names: Mapping[str, str]) -> dict[str, Any]:
    """A training record with the present format's number and names."""
    _require_readable_record(record, "format", where)
    return {**_renamed(record, names), "format": FORMAT}


def _require_readable_record(record: object, key: str, where: str) -> None:
    """Raise `UserError` unless the record is a JSON object of a format that can be read; without a number it is of the
    oldest."""
    if not isinstance(record, Mapping):
        raise UserError(f"{where}: not a JSON object")
    format = record.get(key, OLDEST)
    if not isinstance(format, int):
        raise UserError(f"{where}: {key} is {format!r}, not a whole number")
    require_readable(format, where)


def _renamed(record: Record, names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in record.items()}
