"""`swe-aem bench` as a user runs it."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from swe_aem.cli import app
from swe_aem.errors import UserError
from swe_aem.tasks import load_tasks
from tests.policy.chat_api import answer, serving
from tests.task_rows import write_tasks


def bench(*words: object) -> Result:
    return CliRunner().invoke(app, ["bench", *map(str, words)])


@pytest.mark.bubblewrap
@pytest.mark.slow
@pytest.mark.usefixtures("require_bubblewrap")
def test_a_set_becomes_a_number_predictions_and_a_page_and_a_rerun_adds_what_is_new(tmp_path: Path) -> None:
    words = ("tasks/micro", "--policy", "gold", "--no-twins", "--out", tmp_path)
    first = bench(*words, "--limit", 1)
    assert first.exit_code == 0, first.output
    assert "tasks: 1; trajectories: 1, 0 are done" in first.stderr
    assert "time: at most 30 minutes for agents' commands" in first.stderr
    assert "pass@1 100.0% (95 % interval 20.7% to 100.0%): 1 of 1 samples of 1 tasks resolved." in first.stdout
    again = bench(*words, "--limit", 2)
    assert (again.exit_code, "trajectories: 2, 1 are done" in again.stderr) == (0, True), again.output
    assert "2 of 2 samples of 2 tasks resolved" in again.stdout
    done = bench(*words, "--limit", 2)
    assert (done.exit_code, done.stdout) == (0, again.stdout)
    assert (tmp_path / "report.txt").read_text() == done.stdout
    assert "2 of 2 samples" in (tmp_path / "report.html").read_text()
    patches = json.loads((tmp_path / "preds.json").read_text())
    assert len(patches) == 2
    assert all(one["model_patch"].startswith("diff --git") for one in patches.values())
    compared = CliRunner().invoke(app, ["eval", str(tmp_path), str(tmp_path)])
    assert "2 tasks that both have verdicts for" in compared.stdout


@pytest.mark.bubblewrap
@pytest.mark.slow
@pytest.mark.usefixtures("require_bubblewrap")
async def test_a_chat_api_is_benched_from_its_rate_limit_to_the_page(tmp_path: Path) -> None:
    """As a process of its own, against a server."""
    (record,) = load_tasks("tasks/micro", limit=1).records
    applies = f"git apply <<'END'\n{record.key.gold_patch}\nEND"

    def solves(request: dict[str, Any]) -> dict[str, Any]:
        asked = sum(message["role"] == "assistant" for message in request["messages"])
        name, arguments = ("submit", {}) if asked else ("bash", {"command": applies})
        call = {"id": f"c{asked}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        return answer(None, finish="tool_calls", tool_calls=[call])

    async with serving() as api:
        api.script = [(429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}), solves]
        api.key = "sk-bench"
        words = ["bench", "tasks/micro", "--policy", f"chat:{api.url}", "--model", "gpt-x", "--no-twins"]
        settings = ["--limit", "1", "--set", "policy.price={input_usd: 1, output_usd: 2}", "--out", str(tmp_path)]
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "swe_aem", *words, *settings,
            stdout=PIPE, stderr=PIPE, env=os.environ | {"OPENAI_API_KEY": api.key},
        )  # fmt: skip
        out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert "1 of 1 samples of 1 tasks resolved" in out.decode()
    assert len(api.requests) == 3
    (one,) = json.loads((tmp_path / "preds.json").read_text()).values()
    assert (one["model_name_or_path"], one["model_patch"].startswith("diff --git")) == ("gpt-x", True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["cost_usd"] == pytest.approx(2 * 120e-6)
    assert api.key not in "".join([out.decode(), err.decode(), (tmp_path / "report.html").read_text()])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "say what to evaluate: --policy URL, DIR or NAME"),
        (("--agent", "native"), "agent native needs policy"),
        (
            ("--policy", "gold", "--disk", "60G"),
            "--disk is for images of an engine, and the sandbox bubblewrap has none",
        ),
        (("--policy", "gold", "--mirror", "docker.io=h:1"), "--mirror is for images of an engine"),
        (("--policy", "gold", "--sandbox", "docker", "--mirror", "h"), "write REGISTRY=PREFIX"),
    ],
)
def test_what_cannot_work_is_told_at_the_start(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    result = bench("tasks/micro", *words, "--out", tmp_path / "out")
    assert isinstance(result.exception, UserError)
    assert said in str(result.exception)


def test_a_size_that_is_none_is_refused(tmp_path: Path) -> None:
    result = bench("tasks/micro", "--policy", "gold", "--disk", "much", "--out", tmp_path)
    assert (result.exit_code, "write e.g. 50GiB" in " ".join(result.output.split())) == (2, True)


def test_published_images_are_pulled_into_an_engine_unless_a_sandbox_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    write_tasks(tmp_path / "rows.jsonl", ["owner/image:1"])
    words = (tmp_path / "rows.jsonl", "--policy", "gold", "--dry-run", "--out", tmp_path / "out")
    refused = bench(*words)
    assert "no docker engine answers at unix:///nowhere" in str(refused.exception)
    embedded = bench(*words, "--sandbox", "bubblewrap")
    assert (embedded.exit_code, embedded.stdout.splitlines()[0]) == (0, "tasks: 1; trajectories: 1, 0 are done")
    assert not (tmp_path / "out").exists()


@pytest.mark.docker
def test_the_plan_of_an_engine_names_its_disk_and_what_only_a_build_brings(
    tmp_path: Path, require_docker: None
) -> None:
    write_tasks(tmp_path / "rows.jsonl", ["registry.invalid/owner/image:1"])
    said = bench(tmp_path / "rows.jsonl", "--policy", "gold", "--dry-run", "--disk", "5G", "--out", tmp_path / "out")
    assert said.exit_code == 0, said.output
    assert "images: 1 needed, 0 there, 1 to pull" in said.stdout
    assert "take at most 5.0 GiB (--disk)" in said.stdout
    write_tasks(tmp_path / "rows.jsonl", ["swe-aem/never-built:1"])
    words = (tmp_path / "rows.jsonl", "--policy", "gold", "--dry-run", "--sandbox", "docker", "--out", tmp_path / "out")
    assert "swe-aem/never-built:1, and no registry has it" in str(bench(*words).exception)
