"""Charts as data: each is there when one of its keys occurs, and left out when none does."""

import json
from pathlib import Path
from typing import Any

import pytest

from swe_aem.train.records import PHASES
from swe_aem.view.charts import TABLE_ROWS, Chart, charts, smoothing_window
from swe_aem.view.training_run import read_training_run

CHART_OF_KEY = {
    "resolved_rate": "resolved_rate",
    "reward": "reward",
    "aem/response_entropy": "entropy",
    "aem/entropy_range": "entropy",
    "aem/alpha_std": "alpha",
    "aem/alpha_token_mean": "alpha",
    "aem/unmodulated_share": "alpha",
    "outcomes": "outcomes",
    "train_s": "seconds",
    "rollout_wait_s": "seconds",
    "clip_ratio/low_mean": "clipping",
    "clip_ratio/high_mean": "clipping",
    "importance/low_share": "clipping",
    "importance/high_share": "clipping",
    "importance/mean": "importance",
    "importance/min": "importance",
    "importance/max": "importance",
    "importance/k3_kl": "divergence",
    "importance/abs_log_ratio": "divergence",
    "staleness": "staleness",
    "tool_failure_rate": "failures",
    "malformed_rate": "failures",
    "branch_share": "branches",
    "branches/token_share": "branches",
    "zero_variance_groups": "groups",
    "rejected_groups": "groups",
    "positive_share": "positive_share",
    "loss": "optimiser",
    "grad_norm": "optimiser",
    "learning_rate": "learning_rate",
    "turns": "effort",
    "tokens_per_s": "effort",
}
NO_CHART = (
    "wall_s", "rollout_s", "step_s", *sorted({*PHASES} - {"rollout_wait_s"}), "version", "groups", "sampled_tokens",
    "aem/alpha_min", "aem/alpha_max", "aem/entropy_min", "aem/entropy_max", "branches/row_share",
)  # fmt: skip


def charted(directory: Path, lines: list[dict[str, Any]], **files: str) -> dict[str, Chart]:
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name, content in files.items():
        (directory / name.replace("_", ".")).write_text(content)
    return {one.name: one for one in charts(read_training_run(directory))}


@pytest.mark.parametrize(("key", "name"), [*CHART_OF_KEY.items(), *((key, None) for key in NO_CHART)])
def test_one_key_on_one_line_is_enough(tmp_path: Path, kit: Any, key: str, name: str | None) -> None:
    (line,) = kit.metrics(1)
    assert list(charted(tmp_path, [{"step": 1}, {"step": 2, key: line[key]}, {"step": 3}])) == ([name] if name else [])


def test_a_whole_run_has_every_chart(whole_run: Path) -> None:
    names = [one.name for one in charts(read_training_run(whole_run))]
    assert sorted(names) == sorted({*CHART_OF_KEY.values(), "heldout"})


def test_held_out_rates_alone(tmp_path: Path, kit: Any) -> None:
    only_greedy = kit.jsonl([{"step": 0, "greedy": 0.25}, {"step": 5, "greedy": 0.5}])
    found = charted(tmp_path, [{"step": 1}], heldout_jsonl=only_greedy)
    assert list(found) == ["resolved_rate", "heldout"]
    assert [(one.x, one.y) for one in found["heldout"].series] == [(("all, greedy",), (25,)), (("all, greedy",), (50,))]


def test_a_band_needs_both_of_its_edges(tmp_path: Path, kit: Any) -> None:
    (line,) = kit.metrics(1)
    for name, low, high in (
        ("alpha", "aem/alpha_min", "aem/alpha_max"),
        ("entropy", "aem/entropy_min", "aem/entropy_max"),
    ):
        (band,) = charted(tmp_path, [{"step": 1}, {"step": 2, low: line[low], high: line[high]}])[name].series
        assert (band.style, band.x, band.low, band.high) == ("band", (2,), (line[low],), (line[high],))


def test_no_branches_no_chart_of_them(tmp_path: Path) -> None:
    assert charted(tmp_path, [{"step": n, "branch_share": 0.0} for n in (1, 2)]) == {}


def test_outcomes_add_up_to_the_trajectories_and_unknown_ones_are_shown(tmp_path: Path) -> None:
    found = charted(tmp_path, [{"step": 1, "outcomes": {"resolved": 3, "new": 2}}, {"step": 2, "outcomes": {}}])
    assert [(one.label, one.y) for one in found["outcomes"].series] == [("resolved", (3,)), ("new", (2,))]


def test_many_steps_are_smoothed(tmp_path: Path) -> None:
    (few,) = charted(tmp_path, [{"step": step, "staleness": 1} for step in range(1, 51)])["staleness"].series
    (many,) = charted(tmp_path, [{"step": step, "staleness": 1} for step in range(1, 101)])["staleness"].series
    assert (few.window, many.window) == (0, 10)
    assert [smoothing_window(n) for n in (3, 10, 500)] == [0, 2, 10]


def test_metrics_of_any_estimator_are_drawn_by_their_names(tmp_path: Path, kit: Any) -> None:
    lines = kit.metrics(3)
    for number, line in enumerate(lines):
        line |= {"estimator": "capped", "capped/negative_share": number / 4, "other/share": 1.0}
    found = {name: one for name, one in charted(tmp_path, lines).items() if name.startswith("estimator/")}
    assert [(name, one.series[0].y) for name, one in found.items()] == [("estimator/negative_share", (0.0, 0.25, 0.5))]


def test_terms_of_a_reward_are_drawn_where_there_are_several(tmp_path: Path) -> None:
    one = {"step": 1, "reward": 0.5, "reward_terms": {"resolved": 0.5}}
    assert len(charted(tmp_path, [one])["reward"].series) == 1
    two = {"step": 2, "reward_terms": {"resolved": 0.5, "length": None}}
    assert [series.label for series in charted(tmp_path, [one, two])["reward"].series] == [
        "rows trained on",
        "term resolved",
    ]


def test_the_table_has_the_numbers_of_the_chart(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 0.5}, {"step": 2, "grad_norm": 0.123456}, {"step": 4, "loss": -1, "grad_norm": 2.0}]
    head, rows, left_out = charted(tmp_path, lines)["optimiser"].table()
    assert head == ["step", "loss", "gradient norm (right) (norm)"]
    assert (rows, left_out) == ([["1", "0.5", ""], ["2", "", "0.1235"], ["4", "-1", "2"]], 0)


def test_a_table_of_many_steps_is_spread_over_them(tmp_path: Path) -> None:
    chart = charted(tmp_path, [{"step": n, "loss": n} for n in range(1, 1001)])["optimiser"]
    _, rows, left_out = chart.table()
    assert (len(rows), left_out, rows[0][0], rows[-1][0]) == (TABLE_ROWS, 800, "1", "1000")


def test_intervals_stand_beside_each_other_in_the_chart_and_at_their_step_in_the_table(whole_run: Path) -> None:
    chart = next(one for one in charts(read_training_run(whole_run)) if one.name == "resolved_rate")
    assert [one.x for one in chart.series[1:]] == [(-0.2, 19.8, 39.8), (0.2, 20.2, 40.2)]
    head, rows, _ = chart.table()
    assert head[2:5] == [f"held out, sampled (resolved, %){edge}" for edge in ("", ", low", ", high")]
    assert [row[0] for row in rows if row[2]] == ["0", "20", "40"]
