"""Schemas, refusals and observations of the tools."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.agent.prompts import Prompts
from swe_aem.agent.tools import SPECS, TOOLS, Parameter, Tool, Toolbox, call_problem, shortened
from swe_aem.core import ExecResult
from swe_aem.errors import SandboxDead, UserError


@pytest.fixture
def toolbox():
    def make(sandbox, max_observation_bytes=1000):
        render = Prompts().bash_result
        return Toolbox(sandbox, "/testbed", max_observation_bytes=max_observation_bytes, render_result=render)

    return make


def result(**changes):
    base = {"exit_code": 0, "head": b"", "tail": b"", "output_bytes": 0, "output_path": "/tmp/out/1", "wall_s": 0.1}
    return ExecResult(**(base | changes))


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("bash", {"command": "ls"}, None),
        ("submit", {}, None),
        ("str_replace_editor", {"command": "view", "path": "x", "view_range": [1, 2]}, None),
        ("ls", {}, "no tool 'ls'; the tools are bash, str_replace_editor, submit"),
        ("bash", {}, "needs the argument 'command'"),
        ("bash", {"command": ["ls"]}, "must be a string"),
        ("bash", {"command": None}, "must be a string"),
        ("bash", {"command": "a\0b"}, "NUL"),
        ("bash", {"command": "\ud800"}, "surrogates"),
        ("bash", {"command": "ls", "\ud800": 1}, "no argument '\\ud800'"),
        ("submit", {"patch": "x"}, "has no argument 'patch'; it has none"),
        ("str_replace_editor", {"command": "undo", "path": "x"}, "one of view, create"),
        ("str_replace_editor", {"command": "insert", "path": "x", "insert_line": True}, "must be an integer"),
        ("str_replace_editor", {"command": "insert", "path": "x", "insert_line": "1"}, "must be an integer"),
        ("str_replace_editor", {"command": "view", "path": "x", "view_range": [1]}, "list of two integers"),
        ("str_replace_editor", {"command": "view", "path": "x", "view_range": [1, True]}, "list of two integers"),
    ],
)
def test_schema(name, arguments, problem):
    found = call_problem(name, arguments)
    assert found is None if problem is None else problem in found


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner), max_leaves=5
)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["bash", "str_replace_editor", "submit"]), st.dictionaries(st.text(), anything))
def test_any_arguments_get_an_answer_that_can_be_encoded(name, arguments):
    problem = call_problem(name, arguments)
    assert problem is None or problem.encode()


def test_specs_are_json_schemas():
    for spec in SPECS:
        parameters = spec["function"]["parameters"]
        assert parameters["type"] == "object"
        assert set(parameters["required"]) <= set(parameters["properties"])
        assert all(value["description"] for value in parameters["properties"].values())


async def test_an_unknown_tool_or_argument_is_never_carried_out(toolbox, make_sandbox):
    sandbox = make_sandbox()
    create = {"command": "create", "path": "x", "file_text": ""}
    for name, arguments in (("editor", create), ("str_replace_editor", {**create, "command": "undo"})):
        with pytest.raises(ValueError, match=r"no tool 'editor'|must be one of view"):
            await toolbox(sandbox).call(name, arguments, timeout_s=60)
    assert sandbox.files == {}


def test_a_tool_cannot_be_made_without_what_carries_it_out():
    with pytest.raises(TypeError, match="carry_out"):
        Tool("search", "Search the repository.")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="problem"):
        Parameter({"type": "array", "items": {"type": "string"}})  # type: ignore[call-arg]


def test_each_parameter_is_checked_by_its_own_rule():
    words = Parameter({"type": "array", "description": "Words."}, lambda value: None if value == ["a"] else "is odd")
    tool = Tool("search", "Search.", Toolbox.bash, {"words": words}, required=("words",))
    assert tool.problem({"words": ["a"]}) is None
    assert tool.problem({"words": [1, 2]}) == "the argument 'words' of search is odd"
    assert [spec["function"]["name"] for spec in SPECS] == list(TOOLS)


@pytest.mark.parametrize(
    ("changes", "observation"),
    [
        ({}, "[exit code 0]"),
        ({"head": b"hi\n", "output_bytes": 3}, "hi\n[exit code 0]"),
        ({"head": b"hi", "output_bytes": 2, "exit_code": 3}, "hi\n[exit code 3]"),
        (
            {"head": b"{{ x }}<b>\xff", "output_bytes": 99, "tail": b"end\n"},
            "{{ x }}<b>\ufffd\n[... 84 bytes left out; the whole output is in /tmp/out/1 ...]\nend\n[exit code 0]",
        ),
        (
            {"exit_code": 124, "killed_for": "timeout", "killed": 3},
            "[timed out after 60 s; 3 processes killed]\n[exit code 124]",
        ),
        (
            {"exit_code": 124, "killed_for": "timeout", "killed": 1},
            "[timed out after 60 s; 1 process killed]\n[exit code 124]",
        ),
        (
            {"exit_code": 137, "killed_for": "disk", "killed": 2},
            "[the disk limit is reached; 2 processes killed]\n[exit code 137]",
        ),
        ({"exit_code": 137, "oom": True}, "[the memory limit ended at least one process]\n[exit code 137]"),
    ],
)
async def test_what_a_command_shows(toolbox, make_sandbox, changes, observation):
    sandbox = make_sandbox(lambda sandbox, command: result(**changes))
    shown = await toolbox(sandbox).call("bash", {"command": "x"}, timeout_s=60.0)
    assert shown.observation == observation
    assert shown.exit_code == changes.get("exit_code", 0)
    assert shown.timed_out == (changes.get("killed_for") == "timeout")


async def test_long_output_is_cut_by_the_sandbox(toolbox, make_sandbox):
    sandbox = make_sandbox(lambda sandbox, command: (0, b"x" * 5000))
    shown = await toolbox(sandbox).call("bash", {"command": "x"}, timeout_s=60)
    assert "4000 bytes left out" in shown.observation
    assert len(shown.observation) < 1200


@pytest.mark.parametrize(
    ("arguments", "observation"),
    [
        ({"command": "view", "path": "nope"}, "Error: nope: no such file or directory"),
        ({"command": "str_replace", "path": "dir", "old_str": "a", "new_str": "b"}, "Error: dir: is a directory"),
        ({"command": "create", "path": "x"}, "Error: the command 'create' needs the argument 'file_text'"),
    ],
)
async def test_a_failing_edit_is_an_observation(toolbox, make_sandbox, arguments, observation):
    sandbox = make_sandbox()
    sandbox.files["/testbed/dir/f"] = b""
    shown = await toolbox(sandbox).call("str_replace_editor", arguments, timeout_s=60)
    assert shown.observation == observation


async def test_a_huge_edit_shows_little(toolbox, make_sandbox):
    sandbox = make_sandbox()
    sandbox.files["/testbed/f"] = b"a"
    arguments = {"command": "str_replace", "path": "f", "old_str": "a", "new_str": "é" * 9000}
    shown = await toolbox(sandbox).call("str_replace_editor", arguments, timeout_s=60)
    assert sandbox.files["/testbed/f"] == ("é" * 9000).encode()
    assert "bytes left out" in shown.observation
    assert len(shown.observation) < 1200


async def test_a_dead_sandbox_raises(toolbox, make_sandbox):
    sandbox = make_sandbox()
    await sandbox.close()
    for name, arguments in (
        ("bash", {"command": "x"}),
        ("str_replace_editor", {"command": "view", "path": "x"}),
        ("str_replace_editor", {"command": "create", "path": "x", "file_text": ""}),
    ):
        with pytest.raises(SandboxDead):
            await toolbox(sandbox).call(name, arguments, timeout_s=60)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(1, 50))
def test_shortened_keeps_both_ends(text, max_bytes):
    short = shortened(text, max_bytes)
    if len(text.encode()) <= max_bytes:
        assert short == text
    else:
        head, _, rest = short.partition("\n[... ")
        assert text.startswith(head)
        assert text.endswith(rest.partition(" bytes left out ...]\n")[2])


def test_prompts_can_be_replaced_one_by_one(tmp_path):
    (tmp_path / "system.jinja").write_text("Be brief.")
    prompts = Prompts(tmp_path)
    assert prompts.render("system") == "Be brief."
    assert "no tool call" in prompts.render("no_call")
    (tmp_path / "no_call.jinja").write_text("{{ undefined_thing }}")
    prompts = Prompts(tmp_path)
    with pytest.raises(UserError, match=r"no_call\.jinja.*undefined_thing"):
        prompts.render("no_call")
    (tmp_path / "no_call.jinja").write_text("{% if %}")
    with pytest.raises(UserError, match=r"no_call\.jinja"):
        Prompts(tmp_path)
    with pytest.raises(UserError, match="no such directory"):
        Prompts(tmp_path / "nowhere")
