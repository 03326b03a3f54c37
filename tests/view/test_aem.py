"""Is AEM doing anything? The sentence follows from the numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

from swe_aem.view.aem import AemAnswer, is_aem_at_work
from swe_aem.view.training_run import read_training_run


def answer(directory: Path, lines: list[dict[str, Any]], config: str = "") -> AemAnswer:
    metrics = [{"step": step, **line} for step, line in enumerate(lines, start=1)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in metrics))
    (directory / "config.yaml").write_text(config)
    return is_aem_at_work(read_training_run(directory))


def line(unmodulated: float, std: float, span: float = 0.5) -> dict[str, Any]:
    alphas = {"aem/alpha_min": 1 - std, "aem/alpha_max": 1 + std, "aem/alpha_std": std}
    return {"aem/unmodulated_share": unmodulated, "aem/entropy_range": span, **alphas}


@pytest.mark.parametrize(
    ("lines", "config", "said"),
    [
        ([], "", "Whether AEM does anything is not known: no step has metrics of it yet."),
        (
            [line(0.25, 0.5)],
            "",
            "AEM is at work: α differs from 1 for 75% of the responses (α from 0.50 to 1.50, ",
        ),
        ([line(0.95, 0.5)], "", "AEM does very little: α differs from 1 for 5% of the responses"),
        ([line(0.1, 0.001)], "", "AEM does very little: "),
        (
            [line(1.0, 0.0, 0.05)],
            "",
            "AEM does nothing: every response keeps its advantage (α = 1) in 1 steps; entropy ",
        ),
        (
            [line(1.0, 0.0)],
            "advantage: {min_range: 0.75}",
            "ranges over 0.5 nats within a group, and min_range is 0.75.",
        ),
        ([{"aem/unmodulated_share": 0.5, "aem/alpha_std": 0.5}], "", "of the responses (standard deviation 0.5, on "),
        ([{}], "advantage: max_rl", "AEM is not used: advantages are made by max_rl."),
        ([{"estimator": "mine"}], "advantage: aem", "AEM is not used: advantages are made by mine."),
        ([{}], "advantage: [", "Whether AEM does anything is not known"),
        (
            [line(0.0, 0.5)] * 5 + [line(1.0, 0.0)] * 5,
            "",
            " That was 100% in the first 2 steps and 0% in the last 2.",
        ),
    ],
)
def test_the_sentence_follows_from_the_numbers(tmp_path: Path, lines: Any, config: str, said: str) -> None:
    assert said in answer(tmp_path, lines, config).sentence


def test_the_evidence_stands_beside_it(tmp_path: Path) -> None:
    lines = [line(0.25, 0.5) | {"groups": 8, "zero_variance_groups": 2}, line(0.75, 0.25) | {"groups": 8}]
    relation = {"name": "α-1 and H-S", "points": 64, "r": 0.25}
    (tmp_path / "diagnose.json").write_text(json.dumps({"state_relations": [relation, relation | {"r": None}]}))
    found = {one.what: one for one in answer(tmp_path, lines, "advantage: {estimator: aem, min_range: 0.2}").evidence}
    share = found["responses with α = 1"]
    assert (share.mean, share.first, share.last) == ("50 %", "25 %", "75 %")
    assert "below 0.2 (min_range)" in found["entropy range within a group"].means
    assert found["zero-variance groups"].mean == "25 %"
    assert found["correlation of α-1 and H-S"].mean == "+0.25"


def test_a_diagnosis_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    for text in ("{", "[]", '{"state_relations": [1]}', '{"state_relations": null}'):
        (tmp_path / "diagnose.json").write_text(text)
        assert not any("correlation" in one.what for one in answer(tmp_path, [line(0.5, 0.5)]).evidence)
