"""The dataset card of a store: what makes `datasets.load_dataset(DIR)` read it as it lies.

The schema is declared and not inferred, because a store may begin with rows whose lists are empty and whose values are
null. The number of records is in the card because `datasets` caches by the card's content: a card that never changed
would give a reader of a growing store yesterday's rows.
"""

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
  - name: format
    dtype: int64
  - name: task_id
    dtype: string
  - name: sample
    dtype: int64
  - name: attempt
    dtype: int64
  - name: outcome
    dtype: string
  - name: reward
    dtype: float64
  - name: weight
    dtype: float64
  - name: agent
    dtype: string
  - name: model
    dtype: string
  - name: stop
    dtype: string
  - name: error
    dtype: string
  - name: patch
    dtype: string
  - name: timings_s
    dtype: string
  - name: verdict
    struct:
    - name: resolved
      dtype: bool
    - name: patch_applied
      dtype: bool
    - name: timed_out
      dtype: bool
    - name: fail_to_pass
      dtype: string
    - name: pass_to_pass
      dtype: string
    - name: fail_to_pass_fraction
      dtype: float64
    - name: pass_to_pass_fraction
      dtype: float64
    - name: stripped_files
      list: string
    - name: integrity
      list: string
    - name: exit_code
      dtype: int64
    - name: eval_s
      dtype: float64
    - name: wall_s
      dtype: float64
    - name: log_tail
      dtype: string
  - name: messages
    list:
    - name: role
      dtype: string
    - name: content
      dtype: string
    - name: extra
      dtype: string
  - name: responses
    list:
    - name: start
      dtype: int64
    - name: end
      dtype: int64
    - name: version
      dtype: int64
    - name: finish_reason
      dtype: string
    - name: sample_s
      dtype: float64
    - name: entropy
      dtype: float64
    - name: entropy_estimator
      dtype: string
    - name: tool_calls
      list:
      - name: name
        dtype: string
      - name: arguments
        dtype: string
      - name: status
        dtype: string
      - name: observation
        dtype: string
      - name: exit_code
        dtype: int64
      - name: timed_out
        dtype: bool
      - name: wall_s
        dtype: float64
  - name: token_ids
    list: int64
  - name: sampled_mask
    list: bool
  - name: logprobs
    list: float64
  - name: side_chains
    dtype: string
  - name: sha256
    dtype: string
---

# Trajectories of software-engineering agents

Written by `swe-aem rollout`; one line of `trajectories/*.jsonl` is one graded trajectory. {records} records.

    from datasets import load_dataset
    rows = load_dataset("PATH/OF/THIS/DIRECTORY", split="train")

`token_ids`, `sampled_mask` and `logprobs` run in parallel; `logprobs` is 0 where nothing was sampled. `responses` are
half-open spans of sampled tokens. `arguments`, `extra`, `timings_s`, `fail_to_pass`, `pass_to_pass` and `side_chains`
are JSON. Bytes that are not UTF-8 appear as private-use characters U+10DC80 to U+10DCFF; `swe_aem.store.Store` gives
them back exactly. `reward` is null for failures of the infrastructure: leave such rows out of baselines and losses.
"""


def card(records: int) -> str:
    """The card's text for a store of that many records."""
    return _TEMPLATE.format(records=records)
