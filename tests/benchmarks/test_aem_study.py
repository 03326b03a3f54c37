"""The study of AEM: its environment, its keys and reruns, its statistics by hand, and one run of two steps."""

import json
import math
import random
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")

import aem_study  # noqa: E402
from study import hunts, measures, results, sandboxes, settings, theory  # noqa: E402
from study.configuration import configuration  # noqa: E402

from swe_aem.core import Outcome  # noqa: E402
from swe_aem.train.refusals import reasons_at_start  # noqa: E402

WORD = hunts.WORDS[0]


def plain(action: int) -> list[int]:
    return [WORD, action, hunts.END]


def with_what(action: int, what: int) -> list[int]:
    return [WORD, action, what, hunts.END]


@pytest.fixture
def task() -> hunts.Task:
    return next(hunts.tasks(random.Random(0), heldout=False))


class TestHunts:
    def test_the_right_file_and_the_right_fix_resolve_a_task(self, task: hunts.Task) -> None:
        hunt = hunts.Hunt(task)
        assert hunt.prompt == [hunts.USER, task.symptom, hunts.ME]
        assert hunt.answer(plain(hunts.LOOK)) == [hunts.TOOL, *task.files, hunts.ME]
        opened = hunt.answer(with_what(hunts.OPEN, task.files[task.faulty]))
        assert opened == [hunts.TOOL, task.contents[task.faulty], hunts.ME]
        assert hunt.answer(with_what(hunts.EDIT, task.fix)) == [hunts.TOOL, hunts.OK, hunts.ME]
        assert hunt.answer(plain(hunts.TEST)) == [hunts.TOOL, hunts.PASS, hunts.ME]
        assert hunt.answer(plain(hunts.STOP)) == []
        assert hunt.outcome is Outcome.RESOLVED
        assert hunt.resolved

    def test_opening_a_file_takes_the_edit_back(self, task: hunts.Task) -> None:
        hunt, faulty = hunts.Hunt(task), task.files[task.faulty]
        for response in (
            with_what(hunts.OPEN, faulty),
            with_what(hunts.EDIT, task.fix),
            with_what(hunts.OPEN, faulty),
        ):
            assert hunt.answer(response)
        assert hunt.answer(plain(hunts.TEST)) == [hunts.TOOL, hunts.FAIL, hunts.ME]
        assert hunt.answer(plain(hunts.STOP)) == []
        assert hunt.outcome is Outcome.EMPTY_PATCH

    @pytest.mark.parametrize(
        "response",
        [
            [WORD, hunts.LOOK, WORD],
            [hunts.LOOK, hunts.END],
            with_what(hunts.EDIT, hunts.FIXES[0]),
            with_what(hunts.OPEN, hunts.FIXES[0]),
        ],
        ids=["without an end", "without a word", "before a file is open", "of no file"],
    )
    def test_a_malformed_response_ends_it(self, task: hunts.Task, response: list[int]) -> None:
        hunt = hunts.Hunt(task)
        assert hunt.answer(response) == []
        assert (hunt.outcome, hunt.resolved) == (Outcome.MALFORMED, False)

    def test_turns_run_out(self, task: hunts.Task) -> None:
        hunt = hunts.Hunt(task)
        answers = [hunt.answer(plain(hunts.LOOK)) for _ in range(hunts.MAX_TURNS)]
        assert all(answers[:-1])
        assert (answers[-1], hunt.outcome) == ([], Outcome.TURN_LIMIT)
        tokens = len(hunt.prompt) + sum(len(plain(hunts.LOOK)) + len(answer) for answer in answers)
        assert tokens <= hunts.MAX_TOKENS < tokens + 9

    def test_no_heldout_task_is_trained_on(self) -> None:
        def what(task: hunts.Task) -> tuple[Any, ...]:
            return task.symptom, frozenset(task.files), task.contents[task.faulty]

        seen = {what(one) for one in islice(hunts.tasks(random.Random(1), heldout=False), 3000)}
        assert not seen & {what(one) for one in islice(hunts.tasks(random.Random(2), heldout=True), 500)}

    def test_demonstrations_fit_and_the_better_demonstrator_resolves_more(self) -> None:
        rates = []
        for aim in settings.REGIMES.values():
            dice = random.Random(3)
            demonstrator, source = hunts.Demonstrator(hunts.Skill(aim), dice), hunts.tasks(dice, heldout=False)
            found = [hunts.demonstration(next(source), demonstrator) for _ in range(400)]
            assert all(len(one.token_ids) == len(one.sampled) <= hunts.MAX_TOKENS for one in found)
            assert not any(one.outcome is Outcome.MALFORMED for one in found)
            rates.append(sum(one.outcome is Outcome.RESOLVED for one in found) / len(found))
        assert rates == sorted(rates)


class TestRuns:
    def test_every_run_of_the_plan_has_a_file_of_its_own(self) -> None:
        runs = list(settings.plan())
        assert len(runs) == len(settings.ARMS) * len(settings.REGIMES) * settings.SEEDS
        assert len({run.file for run in runs}) == len(runs)
        assert {(run.arm, run.seed) for run in runs[:48]} == {(a, s) for a in settings.MAIN for s in range(4)}

    def test_a_key_is_a_hash_of_all_settings(self) -> None:
        run = settings.run_of("20", "AEM", 3)
        assert run.key == settings.run_of("20", "AEM", 3).key
        others = [
            run.model_copy(update={"learning_rate": 0.5}),
            run.model_copy(update={"revision": 0}),
            run.model_copy(update={"warm_start": run.warm_start.model_copy(update={"steps": 7})}),
            settings.run_of("20", "AEM", 3, again=True),
            settings.run_of("20", "AEM", 4),
            settings.run_of("20", "AEM reversed", 3),
            settings.run_of("5", "AEM", 3),
        ]
        assert len({run.key, *(one.key for one in others)}) == 1 + len(others)

    @pytest.mark.parametrize("arm", settings.ARMS)
    def test_every_arm_is_a_configuration_that_training_accepts(self, arm: str) -> None:
        run = settings.run_of("20", arm, 3)
        config = configuration(run, Path("runs/policy"))
        assert list(reasons_at_start(config, sharded=False)) == []
        fixed = config.advantage.model_dump()
        assert (fixed.get("lam", 1), fixed.get("min_range", 0.1), config.rollout.native.temperature) == (1, 0.1, 1)
        assert fixed.get("seed", 3) == (3 if fixed.get("shuffle", True) else 0)

    def test_only_what_is_missing_is_run(self, tmp_path: Path) -> None:
        first, second = settings.run_of("5", "GRPO", 0), settings.run_of("5", "GRPO", 1)
        (tmp_path / first.file).write_text("{}")
        older = second.model_copy(update={"revision": 0})
        (tmp_path / older.file).write_text("{}")
        assert list(aem_study.missing([first, second], tmp_path)) == [second]


class TestRunsInSandboxes:
    def test_every_run_has_a_file_of_its_own(self) -> None:
        runs = list(sandboxes.plan())
        assert [(run.arm, run.seed) for run in runs] == [(arm, seed) for seed in range(4) for arm in ("GRPO", "AEM")]
        assert len({run.file for run in runs}) == len(runs)

    def test_another_policy_is_another_run(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = next(sandboxes.plan())
        (tmp_path / "model.safetensors").write_bytes(b"other weights")
        monkeypatch.setattr(sandboxes, "POLICY", tmp_path)
        assert next(sandboxes.plan()).key != before.key

    def test_the_policy_at_the_start_is_evaluated_once(self, tmp_path: Path) -> None:
        first, second, *_ = sandboxes.plan()
        assert sandboxes._known_before(first, tmp_path) is None
        (tmp_path / sandboxes.DIRECTORY).mkdir()
        evaluation = {"solved": "08", "greedy": "01"}
        (tmp_path / sandboxes.DIRECTORY / first.file).write_text(json.dumps({"before": evaluation}))
        assert sandboxes._known_before(second, tmp_path) == evaluation
        assert sandboxes.read_arms(tmp_path) == {"GRPO": {0: {"before": evaluation}}, "AEM": {}}

    def test_training_that_fails_ends_it_in_a_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "refused.yaml").write_text("no_such_setting: 1\n")
        monkeypatch.setattr(sandboxes, "CONFIG", tmp_path / "refused.yaml")
        arguments = ["aem_study.py", "--sandboxes", f"--work={tmp_path / 'work'}", f"--results={tmp_path}"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit, match="exit code 2; repeat the command"):
            aem_study.main()

    @pytest.mark.parametrize("arm", sandboxes.ARMS)
    def test_every_arm_is_a_configuration_that_training_accepts(self, arm: str) -> None:
        from swe_aem.train.config import read_config

        settings = [f"{name}={json.dumps(value)}" for name, value in sandboxes.ARMS[arm].items()]
        fixed = read_config(sandboxes.CONFIG, settings, {}).advantage.model_dump()
        assert (fixed["lam"], fixed["min_range"]) == (0 if arm == "GRPO" else 1, 0.1)


class TestStatistics:
    def test_detectable(self) -> None:
        """(1.95996 + 0.84162) * 0.05 / sqrt(16)"""
        assert measures.detectable(0.05, 16) == pytest.approx(0.0350198, abs=1e-6)

    def test_deviation_of_pairs_with_mean_0(self) -> None:
        assert measures.deviation([[0.1, -0.1], [0.2]]) == pytest.approx(math.sqrt(0.06 / 3))

    def test_the_interval_of_two_seeds_is_all_that_they_can_be(self) -> None:
        """Of four equally likely draws of two seeds, one is both times the first."""
        assert measures.over_seeds([0.0, 1.0]) == (0.5, 0.0, 1.0)
        assert measures.over_seeds([0.25, 0.25, 0.25]) == (0.25, 0.25, 0.25)
        assert not measures.over_seeds([0.0, 1.0]).excludes_0

    def test_tasks_are_drawn_too(self) -> None:
        found = measures.over_seeds_and_tasks(np.array([[0.0, 1.0], [0.0, 1.0]]))
        assert found == (0.5, 0.0, 1.0)

    def test_correlation(self) -> None:
        """Deviations -1, 0, 1 and -1, 1, 0: 1 / sqrt(2 * 2)."""
        assert measures.correlation([1, 2, 3], [1, 3, 2]) == pytest.approx(0.5)
        assert math.isnan(measures.correlation([1, 1, 1], [1, 2, 3]))

    def test_rates_of_tasks(self) -> None:
        found = results.task_rates({"solved": "0840", "greedy": "0110"})
        assert {name: values.tolist() for name, values in found.items()} == {
            "sampled pass@1": [0, 1, 0.5, 0],
            "greedy": [0, 1, 1, 0],
            "pass@8": [0, 1, 1, 0],
        }

    def test_differences_are_of_the_seeds_that_both_have(self) -> None:
        arm = {seed: {"after": {"solved": solved, "greedy": "00"}} for seed, solved in ((0, "08"), (2, "88"))}
        base = {seed: {"after": {"solved": "44", "greedy": "00"}} for seed in (1, 2)}
        found = results.differences(arm, base, "sampled pass@1")
        assert found is not None
        assert found.tolist() == [[0.5, 0.5]]
        assert results.differences(arm, {}, "greedy") is None

    def test_phases_are_paired_and_of_quarters(self) -> None:
        def of(entropy: list[float], change: float) -> dict[str, Any]:
            return {"steps": {"entropy": entropy, "change": [change]}}

        arms = {
            "GRPO": {0: of([1, 1, 1, 1, 1, 1, 1, 1], 0.5), 1: of([2] * 8, 0.5), 7: of([9] * 8, 9)},
            "AEM": {0: of([1, 2, 1, 1, 1, 1, 0, 1], 0.7), 1: of([2, 3, 2, 2, 2, 2, 1, 2], 0.7)},
        }
        found = theory.phases(arms, "AEM")
        assert found.first == pytest.approx((0.2, 0.2, 0.2))
        assert found.early == pytest.approx((0.5, 0.5, 0.5))
        assert found.late == pytest.approx((-0.5, -0.5, -0.5))

    def test_states_count_signs_over_runs(self) -> None:
        arm = {
            seed: {"states": [{"step": 1, "r": r, "agree": agree, "signs": 10, "r_change": r}]}
            for seed, r, agree in ((0, 0.2, 6), (1, 0.6, 8))
        }
        (found,) = theory.states(arm)
        assert (found.step, found.agree, found.signs) == (1, 14, 20)
        assert found.r == pytest.approx((0.4, 0.2, 0.6))


class TestThePage:
    def test_it_says_what_the_results_say(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib", reason="needs the train extra")
        from study import report

        (tmp_path / "docs" / "images").mkdir(parents=True)
        for arm, solved in (("GRPO", "4400"), ("AEM", "8800"), ("AEM reversed", "4400")):
            for seed in (0, 1):
                run = settings.run_of("20", arm, seed)
                (tmp_path / run.file).write_text(json.dumps(made_up(solved, better=arm == "AEM")))
        report.write(tmp_path, tmp_path / "numbers.json", tmp_path / "docs")
        text = " ".join((tmp_path / "docs" / "aem-study.md").read_text(encoding="utf-8").split())
        assert "pass@1 of AEM minus that of GRPO: +25.0 (+0.0 to +50.0) points, 2 seeds" in text
        assert "GRPO that exclude 0, of 1: none" in text
        assert "+0.0 (+0.0 to +0.0) by the first update, with 25% of the advantages positive, which neither" in text
        assert "+100.0 (+100.0 to +100.0) in the first quarter of the steps, with 25%, as the theory foretells" in text
        assert "Signs agree in 12 of 20 (60%), where it has 55 of 64 (86%)" in text
        assert "75% to 75% of the trained responses are modulated" in text
        assert "The pilot, which says what the design can see, has not run yet" in text
        assert "6 of 432 runs are in" in text
        assert sorted(path.name for path in (tmp_path / "docs" / "images").iterdir()) == [
            "aem-study-curves.svg",
            "aem-study-entropy.svg",
        ]
        numbers = json.loads((tmp_path / "numbers.json").read_text())
        assert numbers["20"]["AEM"]["sampled pass@1"]["mean"] == 0.25
        assert "No run in a sandbox has been made" in text

    def test_it_says_what_runs_in_sandboxes_say(self) -> None:
        pytest.importorskip("matplotlib", reason="needs the train extra")
        from study import reading, report

        found = {
            arm: {seed: made_up(solved, better=False) for seed in (0, 1)}
            for arm, solved in (("GRPO", "4400"), ("AEM", "8800"))
        }
        (line,) = reading.lines({}, None, found)
        assert "AEM minus GRPO, in points, 2 seeds: +25.0 (+0.0 to +50.0) sampled pass@1 and" in line
        assert line.endswith("There 75% of the responses are modulated.")
        assert "| AEM | 2 | 50.0 | 50.0 | 50.0 | +25.0 (+0.0 to +50.0) |" in report._real_table(found)

    def test_the_pilot_says_what_sixteen_pairs_can_see(self, tmp_path: Path) -> None:
        from study.pilot import conclude

        for regime in settings.REGIMES:
            for again, solved in ((False, "4400"), (True, "8400")):
                run = settings.run_of(regime, "GRPO", 0, again=again)
                (tmp_path / run.file).write_text(json.dumps(made_up(solved, better=False)))
        found = conclude(tmp_path, 1)
        line = {"differences": [0.125], "deviation": 0.125, "detectable": 0.0875}
        assert found["regimes"]["5"]["sampled pass@1"] == line
        assert json.loads((tmp_path / "pilot.json").read_text()) == found


def made_up(solved: str, *, better: bool) -> dict[str, Any]:
    """A result of four tasks and four steps."""
    evaluation = {"solved": solved, "greedy": "1010"}
    entropy = [0.6, 0.5, 0.4, 0.3] if better else [0.5, 0.5, 0.4, 0.3]
    steps = {"entropy": entropy, "change": [0.1, 0.0, 0.1, 0.2], "foretold": [0.2, 0.1, 0.2, 0.1]}
    steps |= {name: [0.25] * 4 for name in ("resolved", "positive", "unmodulated", "r")}
    state = {"step": 1, "points": 12, "r": 0.5, "agree": 6, "signs": 10, "r_change": None}
    return {"before": evaluation, "after": evaluation, "steps": steps, "states": [state]}


class TestWhatIsCommitted:
    FOUND = [path for path in sorted(settings.RESULTS.glob("*.json")) if path.name != "pilot.json"]

    def test_results_are_named_by_their_settings_and_small(self) -> None:
        for path in self.FOUND:
            found = json.loads(path.read_text())
            assert settings.Run.model_validate(found["settings"]).file == path.name
            assert path.stat().st_size < 5000

    def test_most_responses_are_modulated(self) -> None:
        """Otherwise the study could say nothing of AEM."""
        for regime, arms in results.read_all(settings.RESULTS).items():
            if arms["AEM"]:
                assert theory.over_steps(arms["AEM"], "unmodulated") < 0.4, regime

    def test_the_page_is_of_all_results(self) -> None:
        made = sum(len(several) for arms in results.read_all(settings.RESULTS).values() for several in arms.values())
        text = (settings.RESULTS.parents[1] / "docs" / "aem-study.md").read_text(encoding="utf-8")
        assert f"{made} of 432 runs are in" in text, "python benchmarks/aem_study.py --report"


@pytest.mark.slow
@pytest.mark.torch
class TestARun:
    def test_two_steps_and_no_second_time(self, tmp_path: Path) -> None:
        pytest.importorskip("trl", reason="needs the train extra")
        from study.runs import made

        run = tiny()
        torn = tmp_path / "work" / f"warm-{run.warm_start.key}" / "model.safetensors"
        torn.parent.mkdir(parents=True)
        torn.write_text("what a killed process left")
        made(run, tmp_path / "work", tmp_path / "results")
        (path,) = (tmp_path / "results").iterdir()
        written = path.read_text()
        found = json.loads(written)
        assert (path.name, found["key"], len(written) < 4000) == (run.file, run.key, True)
        assert all(len(values) == 2 for values in found["steps"].values())
        assert {one["step"] for one in found["states"]} <= {1, 2}
        assert len(found["after"]["solved"]) == len(found["before"]["greedy"]) == 4
        assert [one.name for one in (tmp_path / "work").iterdir()] == [f"warm-{run.warm_start.key}"]
        assert list(aem_study.missing([run], tmp_path / "results")) == []

    @pytest.mark.nightly
    @pytest.mark.parametrize("arm", settings.ARMS)
    def test_every_arm_trains(self, arm: str, tmp_path_factory: pytest.TempPathFactory) -> None:
        pytest.importorskip("trl", reason="needs the train extra")
        from study.runs import made

        directory = tmp_path_factory.getbasetemp() / "every-arm"
        first, again = (made(tiny(arm), directory / "work", directory / f"{n}") for n in (1, 2))
        assert {**first, "seconds": 0} == {**again, "seconds": 0}

    @pytest.mark.nightly
    @pytest.mark.bubblewrap
    @pytest.mark.timeout(900)
    def test_one_in_sandboxes(self, tmp_path: Path, require_bubblewrap: None) -> None:
        pytest.importorskip("trl", reason="needs the train extra")
        changes = {
            "steps": 1, "groups_per_step": 2, "oversampled_groups": 2, "rollout.group_size": 2, "heldout.limit": 4,
            "num_minibatches": 1, "micro_batch_size": 4,
        }  # fmt: skip
        run = next(sandboxes.plan()).model_copy(update={"changes": changes, "samples": 2})
        made = sandboxes.make(run, tmp_path / "work", tmp_path / "results")
        assert sandboxes.read_run(run, tmp_path / "results") == made
        assert {name: len(values) for name, values in made["steps"].items()} == dict.fromkeys(sandboxes.METRICS, 1)
        for when in ("before", "after"):
            assert {kind: len(digits) for kind, digits in made[when].items()} == {"solved": 4, "greedy": 4}

    def test_a_stream_reads_what_a_plain_pass_reads(self) -> None:
        torch = pytest.importorskip("torch")
        from study.policy import imitated
        from study.streams import _Stream, hunt_all, mean_entropies

        model = imitated(tiny().warm_start)
        task = next(hunts.tasks(random.Random(0), heldout=False))
        rows = hunt_all(model, [hunts.Hunt(task) for _ in range(6)], seed=1)
        assert all(row.hunt.outcome is not None for row in rows)
        sampled = [sum(one) / len(one) for row in rows for one in row.entropies]
        assert mean_entropies(model, rows).tolist() == pytest.approx(sampled, abs=1e-4)
        with torch.inference_mode():
            long, short = [2, 20, 4, 13, 5], [2, 20, 4]
            ids, mask = torch.tensor([long, [0, 0, *short]]), torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
            padded = _Stream(model, ids, mask, copies=2).logits
            plain = [model(input_ids=torch.tensor([one])).logits[0, -1] for one in (long, long, short, short)]
        torch.testing.assert_close(padded, torch.stack(plain), atol=1e-4, rtol=1e-4)


def tiny(arm: str = "AEM") -> settings.Run:
    """Two steps of an untaught policy."""
    run = settings.run_of(
        "20",
        arm,
        0,
        steps=2,
        groups_per_step=2,
        oversampled_groups=3,
        group_size=4,
        heldout_tasks=4,
        fresh=4,
    )
    small = run.warm_start.model_copy(update={"demonstrations": 64, "steps": 30, "batch": 32, "hidden_size": 16})
    return run.model_copy(update={"warm_start": small})
