"""Plots: each is drawn when one of its keys occurs, and left out when none does."""

from pathlib import Path
from typing import Any

import pytest

from swe_aem.train.records import PHASES
from swe_aem.view.plots import draw, moving_mean, smoothing_window
from swe_aem.view.training_run import read_training_run

pytest.importorskip("matplotlib", reason="needs the train extra")

PLOT_OF_KEY = {
    "resolved_rate": "resolved_rate",
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
    "zero_variance_groups": "groups",
    "rejected_groups": "groups",
    "positive_share": "positive_share",
    "loss": "optimiser",
    "grad_norm": "optimiser",
    "turns": "effort",
    "tokens_per_s": "effort",
}
NO_PLOT = (
    "wall_s", "rollout_s", "step_s", *sorted({*PHASES} - {"rollout_wait_s"}), "version", "groups", "reward",
    "aem/alpha_min", "aem/alpha_max", "aem/entropy_min", "aem/entropy_max", "learning_rate", "sampled_tokens",
)  # fmt: skip


LABELS = {
    "optimising_s": "optimising", "scoring_s": "scoring", "weights_s": "weights", "checkpoint_s": "checkpoint",
    "rollout_wait_s": "waiting for rollouts", "evaluation_s": "evaluation", "other_s": "other",
}  # fmt: skip


def test_each_second_of_a_step_is_drawn_once(tmp_path: Path, kit: Any) -> None:
    figure = drawn(tmp_path, kit.jsonl(kit.metrics(6)))["seconds"]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sorted(legend) == sorted(LABELS[name] for name in PHASES)


def test_a_line_without_a_division_of_its_step_shows_waiting_and_training(tmp_path: Path, kit: Any) -> None:
    lines = [
        {name: line[name] for name in ("step", "rollout_s", "rollout_wait_s", "train_s")} for line in kit.metrics(2)
    ]
    figure = drawn(tmp_path, kit.jsonl(lines))["seconds"]
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert sorted(legend) == ["training", "waiting for rollouts"]


def drawn(directory: Path, text: str, **files: str) -> dict[str, Any]:
    (directory / "metrics.jsonl").write_text(text)
    for name, content in files.items():
        (directory / name.replace("_", ".")).write_text(content)
    return {one.name: one.figure for one in draw(read_training_run(directory))}


@pytest.mark.parametrize(("key", "plot"), [*PLOT_OF_KEY.items(), *((key, None) for key in NO_PLOT)])
def test_one_key_on_one_line_is_enough(tmp_path: Path, kit: Any, key: str, plot: str | None) -> None:
    (line,) = kit.metrics(1)
    text = kit.jsonl([{"step": 1}, {"step": 2, key: line[key]}, {"step": 3}])
    assert list(drawn(tmp_path, text)) == ([plot] if plot else [])


def test_a_whole_run_has_every_plot(whole_run: Path) -> None:
    names = [one.name for one in draw(read_training_run(whole_run))]
    assert sorted(names) == sorted({*PLOT_OF_KEY.values(), "heldout"})


def test_held_out_rates_alone(tmp_path: Path, kit: Any) -> None:
    only_greedy = kit.jsonl([{"step": 0, "greedy": 0.25}, {"step": 5, "greedy": 0.5}])
    figures = drawn(tmp_path, '{"step": 1}\n', heldout_jsonl=only_greedy)
    assert list(figures) == ["resolved_rate", "heldout"]
    heights = [bar.get_height() for bar in figures["heldout"].axes[0].patches]
    assert heights == [25, 50]


def test_a_band_needs_both_of_its_edges(tmp_path: Path, kit: Any) -> None:
    (line,) = kit.metrics(1)
    for plot, low, high in (("alpha", "alpha_min", "alpha_max"), ("entropy", "entropy_min", "entropy_max")):
        both = {name: line[name] for name in (f"aem/{low}", f"aem/{high}")}
        figures = drawn(tmp_path, kit.jsonl([{"step": 1}, {"step": 2, **both}]))
        assert list(figures) == [plot]
        lines = [list(one.get_ydata()) for one in figures[plot].axes[0].lines[:2]]
        assert lines == [[value] for value in both.values()]


def test_no_branches_no_plot_of_them(tmp_path: Path, kit: Any) -> None:
    assert drawn(tmp_path, kit.jsonl([{"step": n, "branch_share": 0.0} for n in (1, 2)])) == {}


def test_stacks_end_at_the_number_of_trajectories(tmp_path: Path, kit: Any) -> None:
    figures = drawn(
        tmp_path, kit.jsonl([{"step": 1, "outcomes": {"resolved": 3, "new": 2}}, {"step": 2, "outcomes": {}}])
    )
    tops = [bar.get_y() + bar.get_height() for bar in figures["outcomes"].axes[0].patches]
    assert tops == [3, 5]


def test_many_steps_are_smoothed(tmp_path: Path, kit: Any) -> None:
    lines = [{"step": step, "staleness": step % 2} for step in range(1, 101)]
    raw, mean = drawn(tmp_path, kit.jsonl(lines))["staleness"].axes[0].lines
    assert len(raw.get_ydata()) == 100
    assert list(mean.get_xdata()) == list(range(10, 101))
    assert set(mean.get_ydata()) == {0.5}


def test_moving_mean() -> None:
    assert moving_mean([1, 2, 3, 6], 2) == [1.5, 2.5, 4.5]
    assert moving_mean([1], 2) == []
    assert [smoothing_window(n) for n in (3, 10, 500)] == [0, 2, 10]


def test_metrics_of_any_estimator_are_drawn_by_their_names(tmp_path: Path, kit: Any) -> None:
    lines = kit.metrics(3)
    for number, line in enumerate(lines):
        line |= {"estimator": "capped", "capped/negative_share": number / 4, "other/share": 1.0}
    figure = drawn(tmp_path, kit.jsonl(lines))["estimator"]
    (axes,) = figure.axes
    assert axes.get_title(loc="left") == "negative_share"
    assert list(axes.lines[0].get_ydata()) == [0.0, 0.25, 0.5]
