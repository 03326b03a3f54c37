"""The dataset card of a store: with it `datasets.load_dataset(DIR)` reads the store without conversion.

The schema is declared and not inferred, because a store may begin with rows whose lists are empty and whose values are
null. The number of records is in the card because `datasets` caches by the card's content: a card that never changed
would give a reader of a growing store yesterday's rows.
"""

from collections.abc import Iterator
from functools import cache
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from swe_aem.store.trajectory_row import TrajectoryRow

_TEMPLATE = """\
---
configs:
- config_name: default
  data_files:
  - split: train
    path: trajectories/*.jsonl
dataset_info:
  description: {records} trajectories
  features:
{features}
---

# Trajectories of software-engineering agents

Written by `swe-aem rollout`; one line of `trajectories/*.jsonl` is one graded trajectory. {records} records.

    from datasets import load_dataset
    rows = load_dataset("PATH/OF/THIS/DIRECTORY", split="train")

`token_ids`, `sampled_mask` and `logprobs` run in parallel; `logprobs` is 0 where nothing was sampled. `responses` are
half-open spans of sampled tokens. `routed_experts` says, where it was asked for, to which experts of a mixture the
token before each sampled one went: base64 of whole numbers of `id_bytes` bytes, little-endian, (tokens, layers, experts
per token). `arguments`, `extra`, `timings_s`, `reward_terms`, `fail_to_pass`, `pass_to_pass`
and `branches` are JSON. Bytes that are not UTF-8 appear as private-use characters U+10DC80 to U+10DCFF;
`swe_aem.store.Store` gives them back exactly. `reward` is null for infrastructure failures and broken tasks: leave such
rows out of baselines and losses.
"""
_DTYPES = {int: "int64", float: "float64", bool: "bool", str: "string"}


class _Line(TrajectoryRow):
    """A row and the checksum that `segments.seal` adds."""

    sha256: str


def dataset_card(records: int) -> str:
    """The card's text for a store of that many records."""
    return _TEMPLATE.format(records=records, features=_features())


@cache
def _features() -> str:
    return "\n".join(f"  {line}" for line in _columns(_Line))


def _columns(row: type) -> Iterator[str]:
    """One YAML list item for each key of a TypedDict."""
    for name, hint in get_type_hints(row).items():
        yield f"- name: {name}"
        yield from (f"  {line}" for line in _column(hint))


def _column(hint: Any) -> Iterator[str]:
    """The column type of a value; every column may be null."""
    kind = next((one for one in get_args(hint) if one is not NoneType), hint) if NoneType in get_args(hint) else hint
    if is_typeddict(kind):
        yield "struct:"
        yield from _columns(kind)
    elif get_origin(kind) is list and is_typeddict(item := get_args(kind)[0]):
        yield "list:"
        yield from _columns(item)
    elif get_origin(kind) is list:
        yield f"list: {_DTYPES[get_args(kind)[0]]}"
    else:
        yield f"dtype: {_DTYPES[kind]}"
