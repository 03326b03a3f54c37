"""Each label on what has it and on what looks like it, and on any text at all."""

import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.audit import BY_NAME, LABELS, labelled
from swe_aem.audit.shell import commands_of
from swe_aem.core import AnswerKey, Response, TestStatus, ToolCall, Trajectory, Verdict
from swe_aem.core.outcome import Outcome as CoreOutcome
from swe_aem.grading.twins.judging import judged_by_twins
from swe_aem.grading.twins.making import Twin, Twins
from swe_aem.testing.builders import make_record, make_trajectory
from tests.audit.examples import HAVE, HAVE_NOT, Edit, Evidence, Observed, Outcome, Patch, Refused, Several


def trajectory_of(*parts: Any, **changes: Any) -> Trajectory:
    """A trajectory that did what the examples say."""
    calls: list[ToolCall] = []
    patch, refused, evidence = "", [], []
    for part in parts:
        match part:
            case Several():
                return trajectory_of(*part.parts, **changes)
            case str():
                calls.append(ToolCall(name="bash", arguments={"command": part}))
            case Observed():
                calls.append(ToolCall(name="bash", arguments={"command": part.command}, observation=part.observation))
            case Edit():
                arguments = {"command": part.command, "path": part.path}
                key = {"create": "file_text", "view": ""}.get(part.command, "new_str")
                calls.append(
                    ToolCall(name="str_replace_editor", arguments=arguments | ({key: part.text} if key else {}))
                )
            case Patch():
                patch += diff(part)
            case Refused():
                refused.append(part.line)
            case Evidence():
                evidence.append(part.line)
            case Outcome():
                changes["outcome"] = CoreOutcome(part.outcome)
    verdict = Verdict(resolved=True, patch_applied=True, stripped_files=tuple(refused), integrity=tuple(evidence))
    return make_trajectory("t", 0, responses=(response(calls),), patch=patch, verdict=verdict, **changes)


def response(calls: list[ToolCall], *, version: int = 3) -> Response:
    """One response with these calls."""
    return Response(
        start=2,
        end=4,
        logprobs=(-0.25, -1.5),
        version=version,
        finish_reason="stop",
        sample_s=2.0,
        tool_calls=tuple(calls),
    )


def diff(part: Patch) -> str:
    """The section of a file in a git diff."""
    mode = {"new": "new file mode 100644\n", "deleted": "deleted file mode 100644\n"}.get(part.kind, "")
    old = "/dev/null" if part.kind == "new" else f"a/{part.path}"
    new = "/dev/null" if part.kind == "deleted" else f"b/{part.path}"
    body = "".join(f"+{line}\n" for line in part.added.split("\n")) if part.added else "-gone\n"
    head = f"diff --git a/{part.path} b/{part.path}\n{mode}index 1..2 100644\n--- {old}\n+++ {new}\n"
    return f"{head}@@ -1,1 +1,{body.count(chr(10))} @@ def f():\n{body}"


def cases(examples: dict[str, tuple[Any, ...]]) -> list[Any]:
    """(label, example) of a table, each with a short name."""
    return [
        pytest.param(name, one, id=f"{name}-{n}") for name, several in examples.items() for n, one in enumerate(several)
    ]


@pytest.mark.parametrize(("name", "example"), cases(HAVE))
def test_a_label_is_found(name: str, example: Any) -> None:
    assert name in labelled(trajectory_of(example)).labels


@pytest.mark.parametrize(("name", "example"), cases(HAVE_NOT))
def test_a_label_is_not_found_in_what_looks_like_it(name: str, example: Any) -> None:
    assert labelled(trajectory_of(example)).labels.get(name, ()) == ()


def test_every_label_has_examples_and_a_line_in_the_docs() -> None:
    docs = (Path(__file__).parents[2] / "docs" / "audit.md").read_text(encoding="utf-8")
    assert [label.name for label in LABELS] == list(HAVE) == list(HAVE_NOT)
    for label in LABELS:
        assert f"| `{label.name}` | {label.means} | {label.looks_at} |" in docs


async def test_what_twins_say_is_known() -> None:
    passed = {"t::a": TestStatus.PASSED, "t::a2": TestStatus.PASSED}
    verdict = Verdict(resolved=True, patch_applied=True, fail_to_pass=passed)

    async def run(_: AnswerKey) -> Verdict:
        return verdict

    key = make_record().key
    twins = Twins(runs=(Twin(names={"t::a": "t::a2"}),))
    judged = await judged_by_twins(verdict, key, twins, run)
    assert "passes_twins" in labelled(make_trajectory("t", 0, verdict=judged)).labels


def test_evidence_names_turn_place_and_line() -> None:
    first, second = (
        response([ToolCall(name="bash", arguments={"command": "ls"})]),
        response([ToolCall(name="bash", arguments={"command": "cd tests && cat\\\n  test_a.py"})]).model_copy(
            update={"start": 4, "end": 5, "logprobs": (0.0,)}
        ),
    )
    patch = diff(Patch("a.py", "x = 1\n    os._exit(0)   # bye"))
    found = labelled(make_trajectory("t", 0, responses=(first, second), patch=patch)).labels
    (read,) = found["reads_tests"]
    assert (read.turn, read.place, read.text) == (2, "call", "cat test_a.py")
    (ended,) = found["exits_early"]
    assert (ended.turn, ended.place, ended.text) == (None, "patch", "os._exit(0) # bye")


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        pytest.param("bash", {"command": "git reflog"}, id="mini-swe-agent"),
        pytest.param("terminal", {"command": "git reflog", "is_input": "false"}, id="OpenHands"),
        pytest.param("execute_bash", {"command": "git reflog"}, id="older OpenHands"),
        pytest.param("shell", {"cmd": "git reflog"}, id="another argument"),
    ],
)
def test_any_tool_that_runs_commands_is_read(tool: str, arguments: dict[str, Any]) -> None:
    call = ToolCall(name=tool, arguments=arguments)
    assert "searches_history" in labelled(make_trajectory("t", 0, responses=(response([call]),))).labels


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        pytest.param("file_editor", {"command": "view", "path": "/testbed/tests/test_a.py"}, id="OpenHands"),
        pytest.param("read_file", {"path": "tests/test_a.py"}, id="a tool of its own"),
        pytest.param("execute_ipython_cell", {"code": "open('tests/test_a.py').read()"}, id="notebook"),
    ],
)
def test_any_editor_is_read(tool: str, arguments: dict[str, Any]) -> None:
    call = ToolCall(name=tool, arguments=arguments)
    assert "reads_tests" in labelled(make_trajectory("t", 0, responses=(response([call]),))).labels


@pytest.mark.parametrize(
    "said",
    [
        {"content": "", "tool_calls": [{"function": {"name": "bash", "arguments": '{"command": "git reflog"}'}}]},
        {"content": "", "tool_calls": [{"function": {"name": "bash", "arguments": {"command": "git reflog"}}}]},
        {"content": "THOUGHT: look\n\n```bash\ngit reflog\n```\n"},
        {"content": [{"type": "text", "text": "I look.\n```mswea_bash_command\ngit reflog\n```"}]},
    ],
    ids=["arguments are text", "arguments are an object", "fenced block", "fenced block in parts"],
)
def test_messages_are_read_where_responses_have_no_calls(said: dict[str, Any]) -> None:
    messages = ({"role": "user", "content": "Fix it."}, {"role": "assistant", **said})
    found = labelled(make_trajectory("t", 0, responses=(), messages=messages)).labels
    assert [one.turn for one in found["searches_history"]] == [1]


def test_fenced_text_of_an_agent_with_tools_was_not_run() -> None:
    messages = ({"role": "assistant", "content": "```bash\ngit reflog\n```"},)
    assert not labelled(make_trajectory("t", 0, responses=(), messages=messages, agent="native")).labels


def test_a_call_that_was_not_carried_out_is_none() -> None:
    call = ToolCall(name="bash", arguments={"command": "git reflog"}, status="malformed")
    assert not labelled(make_trajectory("t", 0, responses=(response([call]),))).labels


def test_calls_of_branches_count() -> None:
    from swe_aem.core import Branch

    call = ToolCall(name="bash", arguments={"command": "git reflog"})
    branch = Branch(token_ids=(1, 2, 3, 4), responses=(response([call]),))
    assert "searches_history" in labelled(make_trajectory("t", 0, branches=(branch,))).labels


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a b; c", ["a b", "c"]),
        ("a && b || c | d & e", ["a", "b", "c", "d", "e"]),
        ("a 'b c' \"d $e\"", ["a b c d $e"]),
        ("x=1 y; z $x", ["x=1 y", "z $x"]),
        ("x=1; z $x", ["x=1", "z 1"]),
        ("cat <<E > f\na; b\nE\nc", ["cat > f", "c"]),
        ("cat <<'A' <<-B\n1\nA\n\t2\n\tB\nc", ["cat", "c"]),
        ("a $(b c) `d`", ["b c", "d", "a $(b c) $(d)"]),
        ("bash -c 'a; b'", ["bash -c a; b", "a", "b"]),
        ("echo YTsgYg== | base64 -d | sh", ["echo YTsgYg==", "base64 -d", "sh"]),
        ("base64 -d <<'E' | bash\nYTsgYg==\nE", ["base64 -d", "bash", "a", "b"]),
        ("timeout -k 5 10 nice -n 3 a b", ["timeout -k 5 10 nice -n 3 a b", "nice -n 3 a b", "a b"]),
        ("ls | xargs -n 1 rm -f", ["ls", "xargs -n 1 rm -f", "rm -f"]),
        ("if a; then b; else c; fi", ["a", "b", "c"]),
        ("for i in 1 2; do a $i; done", ["for i in 1 2", "a 1"]),
        ("a > out 2>&1 < in", ["a > out < in"]),
        ("a # b\nc", ["a", "c"]),
        ("a \\\n  b", ["a b"]),
        ("diff <(a) <(b)", ["a", "b", "diff /dev/fd/63 /dev/fd/63"]),
        ("echo 'unfinished", ["echo unfinished"]),
        ("cat <<E\nnever ended", ["cat"]),
        ("echo $((1 + 2))", ["echo $((1 + 2))"]),
        ("env A=1 b c", ["env A=1 b c", "A=1 b c"]),
        ("", []),
    ],
)
def test_commands_of_a_text(text: str, wanted: list[str]) -> None:
    assert [command.text for command in commands_of(text)] == wanted


SHELL_TEXT = """a ls cat rm python git -c -m ; && || | & ( ) { } $( ` ' " \\ << <<- <<< <<E E > >> 2>&1 $x ${x x=1
# $(( )) for while do done in if then fi case esac eval bash find -exec {} + tests/test_a.py /proc/1/mem"""
PYTHON_TEXT = """if == : return 'a' " ' # ( ) [ ] import def exec( os._exit(0) sys.argv test 1 + \\ = lambda True"""
SHELL_PIECES = st.sampled_from([*SHELL_TEXT.split(), "\n", "\x0b", "\xa0"])
PYTHON_PIECES = st.sampled_from([*PYTHON_TEXT.split(), "\n", "'''", '"' * 3])
ANY_TEXT = st.text(max_size=60) | st.lists(SHELL_PIECES, max_size=40).map(" ".join)
ANY_CODE = st.text(max_size=60) | st.lists(PYTHON_PIECES, max_size=40).map(" ".join)
ANY_VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | ANY_TEXT, lambda inner: st.lists(inner, max_size=3), max_leaves=5
)
ARGUMENTS = st.dictionaries(
    st.sampled_from(["command", "path", "code", "file_text", "new_str", "cmd", "raw"]) | st.text(max_size=5),
    ANY_VALUE | ANY_CODE | st.sampled_from(["view", "create", "a.py", "tests/a.py", ""]),
    max_size=4,
)
CALLS = st.builds(
    ToolCall,
    name=st.sampled_from(["bash", "terminal", "str_replace_editor", "python", "submit", ""]) | st.text(max_size=5),
    arguments=ARGUMENTS,
    observation=ANY_TEXT,
)
MESSAGES = st.dictionaries(
    st.sampled_from(["role", "content", "tool_calls"]),
    ANY_VALUE
    | st.sampled_from(["assistant", "tool"])
    | st.lists(st.dictionaries(st.just("function"), ARGUMENTS), max_size=2),
)


@settings(max_examples=150)
@given(
    calls=st.lists(CALLS, max_size=4),
    messages=st.lists(MESSAGES, max_size=3),
    patch=ANY_CODE | st.builds(lambda path, code: diff(Patch(path, code)), st.sampled_from(["a.py", "t"]), ANY_CODE),
    lines=st.lists(ANY_TEXT, max_size=2),
)
def test_no_text_of_a_trajectory_makes_the_audit_fail(
    calls: list[ToolCall], messages: list[dict[str, Any]], patch: str, lines: list[str]
) -> None:
    verdict = Verdict(resolved=False, patch_applied=True, stripped_files=tuple(lines), integrity=tuple(lines))
    responses = (response(calls),) if calls else ()
    found = labelled(
        make_trajectory("t", 0, responses=responses, messages=tuple(messages), patch=patch, verdict=verdict)
    ).labels
    assert found.keys() <= BY_NAME.keys()
    assert all("\n" not in one.text and one.text.isprintable() for several in found.values() for one in several)


@pytest.mark.parametrize(
    "text",
    [
        "$(" * 50_000,
        "`" * 100_001,
        "<<a " * 40_000,
        "'\"" * 60_000,
        "a;" * 90_000,
        "x=$x$x$x;" * 20_000,
        "(" * 150_000,
        "cat f | " * 20_000,
        "eval " * 30_000,
        '"""' * 50_000,
        "if x == 1 " * 15_000,
        "\n" * 150_000,
        "\x0b\xa0" * 50_000,
        "sys.argv " * 20_000,
        "/proc/{" * 25_000,
        "a/../" * 30_000,
        "find . -exec {} + " * 9_000,
        "exec(" * 30_000,
        "cp " + "t/test_a.py " * 15_000,
    ],
    ids=lambda text: text[:12].strip() or "lines",
)
def test_long_texts_made_for_it_take_seconds_at_most(text: str) -> None:
    began_s = time.process_time()
    labelled(trajectory_of(text, Edit("create", "a.py", text), Patch("b.py", text), Observed("pytest", text)))
    assert time.process_time() - began_s < 20
