"""The page of a run: the number with its interval, own and official verdicts, what is missing; and the plan."""

import re
from pathlib import Path
from typing import Any

from swe_aem.bench import read_page, text_lines, write_pages
from swe_aem.bench.plan import ImagePlan, Plan
from swe_aem.bench.run import bench_directory
from swe_aem.core import Outcome, TestStatus, Verdict
from swe_aem.core.policy import Usage
from swe_aem.core.trajectory import Response
from swe_aem.rollout import RolloutConfig, claim
from swe_aem.store import Store, Totals, write_summary
from swe_aem.tasks import load_tasks
from swe_aem.testing.builders import make_trajectory

TASKS = load_tasks("micro", split="heldout", limit=4)


def verdict(resolved: bool, official: bool, **more: Any) -> Verdict:
    return Verdict(
        resolved=resolved,
        patch_applied=True,
        fail_to_pass={"t": TestStatus.PASSED if resolved else TestStatus.FAILED},
        official_resolved=official,
        **more,
    )


def store(directory: Path, *changes: dict[str, Any]) -> Path:
    """A store with one sample of each of the first tasks."""
    config = RolloutConfig(tasks="micro", split="heldout", limit=4, policy="gold")
    with Store(directory).writer() as writer:
        claim(directory, config, TASKS.records, stored_tasks=(), tokenizer="t")
        for record, change in zip(TASKS, changes, strict=False):
            writer.append(make_trajectory(record.task.id, 0, **change))
    return directory


def test_the_number_comes_first_and_official_verdicts_stand_beside_it(tmp_path: Path) -> None:
    cheat = {"verdict": verdict(False, True, integrity=("it <b>wrote</b> its own results",)), "reward": 0.0}
    directory = store(
        tmp_path,
        {"verdict": verdict(True, True)},
        cheat | {"outcome": Outcome.INTEGRITY_VIOLATION},
        {"verdict": None, "patch": "", "outcome": Outcome.EMPTY_PATCH, "reward": 0.0},
        {"verdict": None, "outcome": Outcome.INFRASTRUCTURE, "reward": None, "error": "the engine was gone"},
    )
    page = read_page(directory, model="a model")
    assert page is not None
    assert page.own is not None
    assert page.official is not None
    assert (round(page.own.value, 3), round(page.official.value, 3)) == (0.333, 0.667)
    text = "\n".join(text_lines(page))
    assert text.startswith(
        "a model on micro, split heldout\n"
        "pass@1 33.3% (95 % interval 6.1% to 79.2%): 1 of 3 samples of 3 tasks resolved."
    )
    assert re.search(r"pass@1, swebench's rule alone +66\.7%", text)
    assert re.search(r"pass@1, whatever is missing +between 25\.0% and 50\.0%", text)
    assert "the engine was gone" in text
    write_pages(page, directory)
    assert (directory / "report.txt").read_text() == text + "\n"
    html = (directory / "report.html").read_text()
    assert "33.3%" in html
    assert html.count('class="differs"') == 1
    assert "<b>" not in html
    assert "&lt;b&gt;wrote" in html


def summary(directory: Path, **changes: Any) -> None:
    totals = Totals()
    for trajectory in Store(directory).trajectories():
        totals.add(trajectory)
    write_summary(directory, totals.summary(wanted=4, group_size=1, surplus_cancelled=0, wall_s=1.0, **changes))


def test_what_was_left_out_is_named(tmp_path: Path) -> None:
    store(tmp_path, {})
    summary(tmp_path, left_out={"task-9": "its image is <gone>"})
    page = read_page(tmp_path, model="m")
    assert page is not None
    text = "\n".join(text_lines(page))
    assert "So far: 1 of 4 trajectories" in text
    assert "LEFT OUT: task-9: its image is <gone>" in text
    write_pages(page, tmp_path)
    assert "task-9: its image is &lt;gone&gt;" in (tmp_path / "report.html").read_text()


def test_tokens_and_cost_of_a_chat_api_are_those_that_were_billed(tmp_path: Path) -> None:
    usage = Usage(prompt_tokens=1000, completion_tokens=250, cost_usd=0.5)
    response = Response(start=0, end=0, logprobs=(), version=0, finish_reason="stop", sample_s=1.0, usage=usage)
    chat = {"token_ids": (), "responses": (response, response)}
    store(tmp_path, chat, chat)
    summary(tmp_path, cost_usd=2.5)
    page = read_page(tmp_path, model="m")
    assert page is not None
    text = "\n".join(text_lines(page))
    assert re.search(r"tokens sampled +1,000", text)
    assert re.search(r"tokens billed, prompts included +5,000", text)
    assert re.search(r"cost +\$2\.50, \$1\.25 per resolved sample", text)


def test_an_empty_store_has_no_page(tmp_path: Path) -> None:
    assert read_page(store(tmp_path), model="m") is None


def plan(**changes: Any) -> str:
    images = ImagePlan(needed=500, present=12, limit_bytes=60 << 30, free_bytes=100 << 30, disk=Path("/docker"))
    made = Plan(
        tasks=500,
        trajectories=500,
        missing=500,
        concurrency=10,
        time_limit_s=1800,
        per_trajectory_s=None,
        images=images,
    )
    return "\n".join(made.model_copy(update=changes).lines(disk_asked=changes.get("images") is None))


def test_the_plan_names_disk_download_and_hours() -> None:
    said = plan()
    assert "tasks: 500; trajectories: 500, 0 are done" in said
    assert "images: 500 needed, 12 there, 488 to pull" in said
    assert "download: about 244.0 GiB at most" in said
    assert "take at most 60.0 GiB (--disk); 100.0 GiB are free on /docker" in said
    assert "time: at most 25.0 hours for agents' commands, 10 at once" in said
    assert "about 10.0 hours at the rate so far" in plan(per_trajectory_s=72)
    assert plan(missing=0) == "tasks: 500; trajectories: 500, 500 are done"


def test_a_disk_that_is_smaller_than_its_limit_is_told() -> None:
    images = ImagePlan(needed=500, present=0, limit_bytes=60 << 30, free_bytes=20 << 30, disk=Path("/docker"))
    assert "more than is free on /docker" in "\n".join(images.lines(asked=True))
    assert "more than is free" not in "\n".join(images.lines(asked=False))


def test_a_default_directory_names_set_and_model() -> None:
    for policy, name in (
        ("gold", "micro-gold"),
        ("http://localhost:8000", "micro-http-localhost-8000"),
        ("./models/Qwen3-0.6B", "micro-Qwen3-0.6B"),
    ):
        config = RolloutConfig.model_construct(tasks="tasks/micro", agent="native", policy=policy)
        assert bench_directory(config) == Path("runs") / "bench" / name
    config = RolloutConfig.model_construct(
        tasks="SWE-bench/SWE-bench_Verified", agent="openhands", policy={"type": "chat", "model": "org/m-1"}
    )
    assert bench_directory(config).name == "SWE-bench_Verified-openhands-m-1"
