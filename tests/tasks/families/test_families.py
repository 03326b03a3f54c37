"""Rows of every family to records. Those of `tests/data/families` are made by the published schemas, not real ones."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.core import TaskRecord
from swe_aem.errors import UserError
from swe_aem.tasks import load_tasks
from swe_aem.tasks.families.classic import swebench_image
from swe_aem.tasks.families.family import FAMILIES, family_of_setting
from swe_aem.tasks.families.reading import Reading, left_out_note
from swe_aem.tasks.families.registry import Families, RowReader
from swe_aem.tasks.families.reverse import reverse_patch
from swe_aem.tasks.families.rows import read_file_rows
from swe_aem.tasks.families.script import START, apply_lines, evaluation_script, touched
from swe_aem.tasks.families.specs_file import RepoSpec
from swe_aem.tasks.families.swebench import V5_COLUMNS
from swe_aem.tasks.families.swerebench_v2 import PARSERS

DATA = Path(__file__).parents[2] / "data" / "families"
ADD, MUL = "tests/test_calc.py::test_add", "tests/test_calc.py::test_mul"
ISSUE = "add(2, 3) gives -1, not 5."
GOLD_LINE, BUG_LINE = "+    return a + b", "+    return a - b"
FAMILY_OF_FILE = {
    "multi-swe-bench": "Multi-SWE-bench",
    "r2e-gym": "R2E-Gym",
    "swe-bench-classic": "SWE-bench before 5, SWE-Gym",
    "swe-gym": "SWE-bench before 5, SWE-Gym",
    "swe-bench-live": "SWE-bench-Live",
    "swe-lego": "SWE-Lego",
    "swe-rebench": "SWE-rebench",
    "swe-rebench-v2": "SWE-rebench-V2",
    "swe-smith": "SWE-smith",
}


def only(name: str) -> TaskRecord:
    """The one record of a file of made rows."""
    (record,) = load_tasks(str(DATA / f"{name}.jsonl"))
    return record


def changed(tmp_path: Path, name: str, **columns: Any) -> Path:
    """A file with the row of `name`, some columns changed, those that are `...` left out."""
    ((_, row),) = read_file_rows(DATA / f"{name}.jsonl")
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({key: value for key, value in {**row, **columns}.items() if value is not ...}))
    return path


@pytest.mark.parametrize("name", FAMILY_OF_FILE)
def test_a_row_is_recognised_by_its_columns(name: str) -> None:
    ((where, row),) = read_file_rows(DATA / f"{name}.jsonl")
    assert Families().of(where, row).name == FAMILY_OF_FILE[name]
    others = {family.name for family in map(family_of_setting, FAMILIES.names) if family.recognise(row)} - {
        FAMILY_OF_FILE[name]
    }
    assert others <= {"SWE-rebench", "SWE-bench before 5, SWE-Gym"}  # later in the table, with fewer columns


def test_real_rows_are_version_5(dataset_rows: Path) -> None:
    for path in dataset_rows.glob("*.jsonl"):
        assert {Families().of(where, row).name for where, row in read_file_rows(path)} == {"SWE-bench 5"}


def test_columns_of_no_family() -> None:
    with pytest.raises(UserError, match=r"columns \(a\) match no known family: .*R2E-Gym \(docker_image, expected"):
        Families().of("here", {"a": 1})


@pytest.mark.parametrize("name", [name for name in FAMILY_OF_FILE if name != "swe-bench-classic"])
def test_an_agent_sees_the_problem_and_nothing_that_gives_it_away(name: str) -> None:
    record = only(name)
    seen = record.task.model_dump_json()
    assert ISSUE in record.task.problem_statement
    assert not any(secret in seen for secret in ("test_add", "it subtracts", "It subtracts", "Fix add"))
    assert GOLD_LINE in record.key.gold_patch
    assert record.key.fail_to_pass


def test_swe_gym() -> None:
    record = only("swe-gym")
    assert record.task.image == "xingyaoww/sweb.eval.x86_64.iterative_s_dvc-1:latest"
    assert "\npytest -rA tests/test_calc.py\n" in record.key.eval_script
    assert (record.key.log_parser, record.key.fail_to_pass) == ("parse_log_pytest", (ADD,))


def test_swe_gym_mypy_runs_the_cases_of_the_test_patch(tmp_path: Path) -> None:
    patch = "diff --git a/x.test b/x.test\n--- a/x.test\n+++ b/x.test\n@@ -1 +1,2 @@\n a\n+[case testOne]\n"
    (record,) = load_tasks(str(changed(tmp_path, "swe-gym", repo="python/mypy", test_patch=patch)))
    assert "\npytest -n0 -rA -k testOne\n" in record.key.eval_script


def test_classic_rows_need_to_be_told_how_they_are_tested(tmp_path: Path, row: dict[str, Any]) -> None:
    path = str(shutil.copy(DATA / "swe-bench-classic.jsonl", tmp_path))
    with pytest.raises(UserError, match=r"pallets__flask-1 is a row of SWE-bench before version 5.*SWE-bench_Verified"):
        load_tasks(path)
    specs = tmp_path / "specs.yaml"
    specs.write_text('repos: {pallets/flask: {"3.3": {test_cmd: pytest -rA, install: pip install -e .}}}')
    (record,) = load_tasks(path)
    assert record.task.image == "swebench/sweb.eval.x86_64.pallets_1776_flask-1:latest"
    assert "\npip install -e .\n" in record.key.eval_script
    assert (record.key.fail_to_pass, record.key.pass_to_pass) == ((ADD,), (MUL,))

    newer = {**row, "instance_id": "pallets__flask-1", "eval_script": "true\n"}
    (tmp_path / "v5").mkdir()
    (tmp_path / "v5" / "rows.jsonl").write_text(json.dumps(newer))
    specs.write_text("v5: v5/rows.jsonl")
    (record,) = load_tasks(path)
    assert (record.key.eval_script, record.task.image) == ("true\n", newer["image"])
    assert GOLD_LINE in record.key.gold_patch


def test_real_rows_without_what_version_5_added_get_it_back(dataset_rows: Path, tmp_path: Path) -> None:
    newer = dataset_rows / "verified_sample.jsonl"
    rows = [row for _, row in read_file_rows(newer)]
    classic = [{key: value for key, value in row.items() if key not in V5_COLUMNS} for row in rows]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in classic))
    (tmp_path / "specs.yaml").write_text(json.dumps({"v5": str(newer)}))
    assert load_tasks(str(tmp_path / "rows.jsonl")).records == load_tasks(str(newer)).records


@pytest.mark.parametrize("name", ["verified", "lite"])
def test_test_patches_of_real_rows_are_applied_as_in_swebenchs_scripts(dataset_rows: Path, name: str) -> None:
    for record in load_tasks(str(dataset_rows / f"{name}.parquet")):
        lines = "\n".join(apply_lines(record.key.test_patch))
        assert f"\n{lines}\n" in record.key.eval_script, record.task.id


LAST_LINES = {
    "whole": " x=1\n+y=2\n \n z=1\n",
    "a last blank line with its space": " x=1\n+y=2\n \n z=1\n \n",
    "a last blank line without its space": " x=1\n+y=2\n\n z=1\n\n",
    "a last blank line that was stripped": " x=1\n+y=2\n \n z=1\n",
    "no line end at the end of the patch": " x=1\n+y=2\n \n z=1",
    "text after the patch": " x=1\n+y=2\n \n z=1\n-- \n2.40.1\n\n",
    "no line end at the end of the file": " x=1\n+y=2\n \n z=1\n\\ No newline at end of file\n",
    "line ends of Windows": " x=1\r\n+y=2\r\n \r\n z=1\r\n",
}


@pytest.mark.parametrize("options", ["-v", "-v --recount --ignore-space-change --whitespace=nowarn"])
@pytest.mark.parametrize("kind", LAST_LINES)
def test_the_last_lines_of_a_test_patch_survive(tmp_path: Path, kind: str, options: str) -> None:
    hunk = LAST_LINES[kind]
    before = "x=1\n\nz=1\n"
    if "last blank" in kind:
        before += "\n"
    if kind == "no line end at the end of the file":
        before = before.removesuffix("\n")
    if "Windows" in kind:
        before = before.replace("\n", "\r\n")
    count = 4 if "last blank" in kind else 3
    patch = f"diff --git a/t.py b/t.py\n--- a/t.py\n+++ b/t.py\n@@ -1,{count} +1,{count + 1} @@\n{hunk}"
    (tmp_path / "t.py").write_bytes(before.encode())
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    script = "\n".join(["set -e", *apply_lines(patch, options), "true"]) + "\n"
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True)
    end = "\r\n" if "Windows" in kind else "\n"
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "t.py").read_bytes().decode() == before.replace(f"x=1{end}", f"x=1{end}y=2{end}")


@pytest.mark.parametrize("name", ["verified_sample", "lite_sample"])
def test_scripts_choose_the_tests_of_real_rows(dataset_rows: Path, name: str) -> None:
    for _, row in read_file_rows(dataset_rows / f"{name}.jsonl"):
        select = "modules" if row["repo"] == "django/django" else "files"
        spec = RepoSpec(test_cmd="RUN", select=select)
        ours = evaluation_script(spec, row["base_commit"], row["test_patch"]).split("\n")
        real = row["eval_script"].split("\n")
        tests = ours[ours.index(START) + 1].removeprefix("RUN ")
        assert real[real.index(START) + 1].endswith(f" {tests}"), row["instance_id"]
        assert _resets(ours) == _resets(real)
        assert swebench_image(row["instance_id"]) == row["image"]


def _resets(script: list[str]) -> list[str]:
    return [line for line in script if line.startswith("git checkout ")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("repos: [", "not YAML"),
        ("repo: {}", "repo is unknown"),
        ('repos: {a/b: {"*": {}}}', r"repos.a/b.\*.test_cmd is missing: give a list of 1 or more"),
        ('repos: {a/b: {"*": {test_cmd: x, log_parser: y}}}', "no log parser 'y'"),
    ],
)
def test_a_bad_specs_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = str(shutil.copy(DATA / "swe-bench-classic.jsonl", tmp_path))
    (tmp_path / "specs.yaml").write_text(text)
    with pytest.raises(UserError, match=f"specs.yaml: .*{message}"):
        load_tasks(path)


def test_swe_rebench() -> None:
    record = only("swe-rebench")
    assert record.task.image == "swerebench/sweb.eval.x86_64.owner_1776_calc-2"
    assert "\nLANG=C.UTF-8 LC_ALL=C.UTF-8 true\n" in record.key.eval_script
    assert "\nLANG=C.UTF-8 LC_ALL=C.UTF-8 pytest --no-header -rA" in record.key.eval_script


@pytest.mark.parametrize("name", ["swe-rebench", "swe-rebench-v2", "swe-bench-live", "swe-lego"])
@pytest.mark.parametrize("form", ["list", "tuple of a column", "numpy"])
def test_lists_of_commands_become_lines(tmp_path: Path, name: str, form: str) -> None:
    commands: Any = ["cd tests", "pytest -rA 'a b'", "pytest -rA c"]
    ((_, row),) = read_file_rows(DATA / f"{name}.jsonl")
    assert isinstance(row, dict)
    given = numpy.array(commands, dtype=object) if form == "numpy" else commands if form == "list" else tuple(commands)
    if "test_cmds" in row or "test_cmd" in row:
        row["test_cmds" if "test_cmds" in row else "test_cmd"] = given
    else:
        row["install_config"]["test_cmd"] = given
    script = Families().of("here", row).read("here", row, Reading()).key.eval_script
    lines = script.partition(START)[2].split("\n")[1:4]
    prefix = "LANG=C.UTF-8 LC_ALL=C.UTF-8 " if name == "swe-rebench" else ""
    files = " tests/test_calc.py" if name == "swe-rebench" else ""
    assert lines == [f"{prefix}{commands[0]}", f"{prefix}{commands[1]}", f"{prefix}{commands[2]}{files}"]


def test_swe_rebench_v2() -> None:
    record = only("swe-rebench-v2")
    assert record.task.image == "docker.io/swerebenchv2/owner-calc:8-3d55239"
    assert record.task.workdir == "/calc"
    script = record.key.eval_script
    assert "\ncd /calc\n" in script
    assert "conda" not in script
    assert "pip install" not in script  # the image has everything installed


def test_swe_rebench_v2_log_parsers_are_swebenchs() -> None:
    from swebench.harness.log_parsers import PARSER_REGISTRY

    assert PARSER_REGISTRY.keys() >= PARSERS


def test_swe_lego() -> None:
    record = only("swe-lego")
    assert (record.task.image, record.task.workdir) == ("jierun/sweb.eval.x86_64.owner_1776_calc-9:latest", "/testbed")
    assert "\nconda activate testbed\n" in record.key.eval_script
    assert (
        record.key.eval_script.partition(START)[2]
        .split("\n")[1]
        .endswith("ignore::DeprecationWarning tests/test_calc.py")
    )


def test_swe_bench_live(tmp_path: Path) -> None:
    record = only("swe-bench-live")
    assert record.task.image == "starryzhang/sweb.eval.x86_64.owner_1776_calc-10:latest"
    assert record.key.log_parser == "parse_log_pytest"
    assert "conda" not in record.key.eval_script
    (record,) = load_tasks(str(changed(tmp_path, "swe-bench-live", docker_image="starryzhang/other", rebuild_cmds=[])))
    assert record.task.image == "starryzhang/other"


@pytest.mark.parametrize(
    ("family", "columns"),
    [
        ("SWE-bench Pro", {"dockerhub_tag": "a.b-1", "selected_test_files_to_run": "['a']", "fail_to_pass": "['a']"}),
        ("Scale-SWE", {"image_url": "a/b:1", "workdir": "/workspace/b", "pre_commands": "git checkout x"}),
        ("Scale-SWE", {"image_url": "a/b:1", "f2p_script": "def test_a(): ...", "f2p_patch": ""}),
    ],
)
def test_families_that_cannot_be_graded_are_refused_by_name(
    tmp_path: Path, family: str, columns: dict[str, Any]
) -> None:
    gone = {"install_config": ..., "docker_image": ..., "instance_id": "owner__b-1"}
    path = changed(tmp_path, "swe-rebench", **gone, **columns)
    with pytest.raises(UserError, match=f"is a row of {family}, which cannot be graded from its rows: "):
        load_tasks(str(path))
    rows = path.read_text() + "\n" + (DATA / "swe-gym.jsonl").read_text()
    path.write_text(rows)
    (left_out,) = load_tasks(str(path)).left_out
    assert left_out.id == "owner__b-1"


def test_swe_rebench_without_an_image_goes_by_the_rule(tmp_path: Path) -> None:
    (record,) = load_tasks(str(changed(tmp_path, "swe-rebench", docker_image=None)))
    assert record.task.image == "swerebench/sweb.eval.x86_64.owner_1776_calc-2:latest"


def test_swe_smith() -> None:
    record = only("swe-smith")
    assert record.task.repo == "owner/calc"
    assert record.task.image == "jyangballin/swesmith.x86_64.owner_1776_calc.cba8debf"
    assert BUG_LINE in record.key.setup_patch
    assert record.key.hidden == ("tests/test_calc.py",)
    assert "\npytest --disable-warnings --color=no --tb=no --verbose tests/test_calc.py\n" in record.key.eval_script
    # tests of other files are not run, so they do not count
    assert record.key.pass_to_pass == (MUL,)


def test_swe_smith_rows_without_a_problem_are_left_out(tmp_path: Path) -> None:
    path = changed(tmp_path, "swe-smith", problem_statement="")
    path.write_text(path.read_text() + "\n" + (DATA / "swe-smith.jsonl").read_text().replace("0abc1def", "1"))
    tasks = load_tasks(str(path))
    assert len(tasks) == 1
    assert [(row.name, row.reason) for row in tasks.left_out] == [
        ("owner__calc.cba8debf.func_basic__0abc1def", "field 'problem_statement' is empty")
    ]


def test_swe_smith_images_of_early_rows(tmp_path: Path) -> None:
    (record,) = load_tasks(str(changed(tmp_path, "swe-smith", image_name="swesmith.x86_64.owner__calc.cba8debf")))
    assert record.task.image == "jyangballin/swesmith.x86_64.owner_1776_calc.cba8debf"


def test_r2e_gym() -> None:
    record = only("r2e-gym")
    assert record.task.id == "calc__3a4596be5787a29742719150ebfabe3628590e26"
    assert record.task.problem_statement == ISSUE
    assert record.task.base_commit == ""  # the row says <fix>^
    assert record.key.expected == {"test_add": "PASSED", "TestMul.test_mul": "PASSED", "test_known_bug": "FAILED"}
    assert {"/r2e_tests", "r2e_tests", "run_tests.sh"} <= set(record.key.hidden)
    assert "tests/test_calc.py" not in record.key.gold_patch


def test_multi_swe_bench() -> None:
    record = only("multi-swe-bench")
    assert (record.task.id, record.task.workdir) == ("owner__calc-7", "/home/calc")
    assert record.task.image == "mswebench/owner_m_calc:pr-7"
    assert {"/home/fix.patch", "/home/test.patch"} <= set(record.key.hidden)
    assert b"test_add" in record.key.files["/home/test.patch"]


@pytest.mark.parametrize(
    ("name", "column", "value", "message"),
    [
        ("swe-gym", "FAIL_TO_PASS", [], "field 'FAIL_TO_PASS' is empty"),
        ("swe-rebench", "install_config", {"test_cmd": "x", "log_parser": "y"}, "'install_config.log_parser' is 'y'"),
        ("swe-rebench", "install_config", {"log_parser": "parse_log_pytest"}, "'install_config' has no test_cmd"),
        ("swe-rebench", "language", "rust", "field 'image_name' is missing"),
        ("swe-rebench", "install_config", {"test_cmd": {"a": 1}, "log_parser": "parse_log_pytest"}, "not a command or"),
        ("swe-rebench", "install_config", {"test_cmd": ["a", 1], "log_parser": "parse_log_pytest"}, "not a command or"),
        ("swe-rebench-v2", "image_name", None, "field 'image_name' is missing"),
        ("swe-rebench-v2", "image_name", "swerebench/sweb.eval.x86_64.a_1776_b-1", "is not at /calc"),
        (
            "swe-rebench-v2",
            "install_config",
            {"log_parser": "parse_log_haskell", "test_cmd": "x"},
            "'parse_log_haskell'",
        ),
        ("swe-rebench-v2", "install_config", {"log_parser": "parse_log_maven", "test_cmd": "x"}, "'parse_log_maven'"),
        ("swe-rebench-v2", "install_config", {"log_parser": "parse_log_pytest"}, "is None, not a command"),
        (
            "swe-rebench-v2",
            "install_config",
            {"log_parser": "parse_log_pytest", "test_cmd": []},
            "is [], not a command",
        ),
        ("swe-rebench-v2", "repo", "owner/..", "is 'owner/..', not owner/name"),
        ("swe-rebench-v2", "FAIL_TO_PASS", ["a (12 ms)"], "'a (12 ms)', and a name with a duration"),
        ("swe-rebench-v2", "PASS_TO_PASS", ["a in 3.5 sec"], "and a name with a duration"),
        ("swe-rebench-v2", "PASS_TO_PASS", ["a [0.1s]"], "and a name with a duration"),
        ("swe-rebench-v2", "PASS_TO_PASS", [" a"], "white space at an end"),
        ("swe-lego", "test_cmd", "pytest tests", "add -rA"),
        ("swe-lego", "test_cmd", None, "is None, not a command"),
        ("swe-bench-live", "test_cmds", "", "is '', not a command"),
        ("swe-bench-live", "log_parser", "def parser(log):\n    return {}", "only pytest is read"),
        ("swe-bench-live", "rebuild_cmds", ["make"], "later format"),
        ("swe-bench-live", "print_cmds", ["cat report"], "later format"),
        ("swe-smith", "image_name", "", "field 'image_name' is empty"),
        ("swe-smith", "patch", "GIT binary patch\n", "field 'patch' cannot be reversed"),
        ("swe-smith", "FAIL_TO_PASS", ["TestGo"], "add the columns test_cmd and log_parser"),
        ("swe-smith", "instance_id", "calc", "not owner__name.commit.kind"),
        ("r2e-gym", "docker_image", "calc", "has no tag"),
        ("r2e-gym", "expected_output_json", "{}", "has no test that passes"),
        ("r2e-gym", "expected_output_json", '{"a": "GOOD"}', "the status 'GOOD'"),
        ("r2e-gym", "parsed_commit_content", "{}", "not in R2E-Gym's form"),
        ("r2e-gym", "parsed_commit_content", '{"file_diffs": []}', "there is no gold patch"),
        ("multi-swe-bench", "f2p_tests", {}, "field 'f2p_tests' is empty, like s2p_tests"),
        ("multi-swe-bench", "number", "7", "not the number of a pull request"),
        ("multi-swe-bench", "base", {"sha": "main"}, "field 'base' has as sha 'main'"),
        ("multi-swe-bench", "resolved_issues", [], "has no issue with a title"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, column: str, value: object, message: str) -> None:
    path = changed(tmp_path, name, **{column: value})
    with pytest.raises(UserError, match=r"rows\.jsonl, line 1: .*") as raised:
        load_tasks(str(path))
    assert message in str(raised.value)


@given(
    name=st.sampled_from(sorted(FAMILY_OF_FILE)),
    value=st.sampled_from([None, True, 3.5, ["x", 1], {"a": 1}, "", "  ", "x", "\ud800", [], {}]),
    data=st.data(),
)
def test_any_row_is_read_or_refused(name: str, value: object, data: st.DataObject) -> None:
    ((_, row),) = read_file_rows(DATA / f"{name}.jsonl")
    row[data.draw(st.sampled_from(sorted(row)))] = value
    refusal = "here: "
    try:
        assert Families().of("here", row).read("here", row, Reading()).task.id
    except UserError as error:
        refusal = str(error)
    assert refusal.startswith("here: ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["\ud800", "[" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
COLUMNS = sorted(
    {column for name in FAMILY_OF_FILE for _, row in read_file_rows(DATA / f"{name}.jsonl") for column in row}
)


@given(
    name=st.sampled_from(sorted(FAMILY_OF_FILE)),
    kept=st.integers(0, 30),
    values=st.dictionaries(st.sampled_from([*COLUMNS, "image_url", "f2p_script", "timeout_s"]), JSON, max_size=4),
)
def test_whatever_is_in_a_row_the_others_are_tasks(name: str, kept: int, values: dict[str, Any]) -> None:
    ((_, good),) = read_file_rows(DATA / "swe-gym.jsonl")
    ((_, row),) = read_file_rows(DATA / f"{name}.jsonl")
    assert isinstance(row, dict)
    odd = dict(list(row.items())[:kept]) | values
    reader = RowReader()
    read = list(reader.read([("odd", odd), ("good", good)], Reading()))
    assert len(read) + len(reader.left_out) == 2
    assert {row.where for row in reader.left_out} <= {"odd", "good"}
    assert "good" not in {row.where for row in reader.left_out} or read[0][0].task.id == good["instance_id"]
    assert left_out_note("source", reader.left_out, 2).isprintable()


def test_touched_paths_of_a_patch() -> None:
    patch = (
        "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-a\n+--- /dev/null\n"
        "diff --git a/b.py b/b.py\nnew file mode 100644\n--- /dev/null\n+++ b/b.py\n@@ -0,0 +1 @@\n+b\n"
        "diff --git a/c.py b/c.py\ndeleted file mode 100644\n--- a/c.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-c\n"
        "diff --git a/d.py b/e.py\nsimilarity index 100%\nrename from d.py\nrename to e.py\n"
    )
    paths = touched(patch)
    assert paths.modified == ("a.py", "c.py", "d.py")
    assert paths.remaining == ("a.py", "b.py", "e.py")
    script = evaluation_script(RepoSpec(test_cmd="pytest -rA"), "a" * 40, patch)
    assert f"git checkout {'a' * 40} a.py c.py d.py\n" in script  # a file that is not there would spoil the whole
    assert "\npytest -rA a.py b.py e.py\n" in script


@pytest.mark.parametrize("kind", ["modify", "create", "delete", "rename", "mode", "no newline"])
def test_a_reversed_patch_takes_the_patch_back(tmp_path: Path, kind: str) -> None:
    def git(*arguments: str, stdin: str | None = None) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, input=stdin, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    (tmp_path / "a.py").write_text("".join(f"line {number}\n" for number in range(40)))
    (tmp_path / "b.py").write_text("b")
    git("add", "-A")
    git("commit", "-q", "-m", "start")
    text = (tmp_path / "a.py").read_text().replace("line 3\n", "other\n--- a\n\n").replace("line 30\n", "")
    if kind == "modify":
        (tmp_path / "a.py").write_text(text)
    elif kind == "create":
        (tmp_path / "c.py").write_text("c\n")
    elif kind == "delete":
        (tmp_path / "a.py").unlink()
    elif kind == "rename":
        git("mv", "a.py", "c.py")
        (tmp_path / "c.py").write_text(text)
    elif kind == "mode":
        (tmp_path / "a.py").chmod(0o755)
    else:
        (tmp_path / "b.py").write_text("c")
    git("add", "-A")
    patch = git("diff", "--cached", "-M", "HEAD")
    back = reverse_patch(patch)
    git("apply", "--index", stdin=back)
    assert git("status", "--porcelain") == ""
    assert reverse_patch(back) == patch or kind in ("modify", "rename", "no newline")  # the order of - and + differs
