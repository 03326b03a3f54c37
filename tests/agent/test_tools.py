"""Schemas, refusals and observations of the tools."""

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.agent.prompts import Prompts
from swe_aem.agent.tools import SPECS, TOOLS, Parameter, Tool, Toolbox, call_problem, fit_call, shortened
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
        ("str_replace_editor", {"command": "insert", "path": "x", "insert_line": "one"}, "must be an integer"),
        ("str_replace_editor", {"command": "insert", "path": None}, "must be a string"),
        ("str_replace_editor", {"command": "view", "path": "x", "undo": None}, "has no argument 'undo'"),
        ("str_replace_editor", {"command": "view", "path": "x", "view_range": [1]}, "list of two integers"),
        ("str_replace_editor", {"command": "view", "path": "x", "view_range": [1, True]}, "list of two integers"),
    ],
)
def test_schema(name, arguments, problem):
    found = call_problem(name, arguments)
    assert found is None if problem is None else problem in found


INSERT = {"command": "insert", "path": "x", "new_str": ""}
VIEW = {"command": "view", "path": "x"}


@pytest.mark.parametrize(
    ("arguments", "argument", "value"),
    [
        ({**VIEW, "view_range": None}, "view_range", ...),
        ({**VIEW, "file_text": None}, "file_text", ...),
        ({**INSERT, "insert_line": "3"}, "insert_line", 3),
        ({**INSERT, "insert_line": " 3\n"}, "insert_line", 3),
        ({**INSERT, "insert_line": "-1"}, "insert_line", -1),
        ({**INSERT, "insert_line": "1e3"}, "insert_line", 1000),
        ({**INSERT, "insert_line": 3.0}, "insert_line", 3),
        ({**INSERT, "insert_line": "3.0"}, "insert_line", 3),
        ({**VIEW, "view_range": "[1, 20]"}, "view_range", [1, 20]),
        ({**VIEW, "view_range": '[1.0, "-1"]'}, "view_range", [1, -1]),
        ({**VIEW, "view_range": ["1", 20.0]}, "view_range", [1, 20]),
        ({**INSERT, "insert_line": 0, "new_str": 42}, "new_str", "42"),
    ],
)
def test_what_can_be_read_without_loss_is_converted(arguments, argument, value):
    assert call_problem("str_replace_editor", arguments) is None
    fitted = fit_call("str_replace_editor", arguments)
    assert fitted.arguments == {name: one for name, one in {**arguments, argument: value}.items() if one is not ...}
    assert [type(one) for one in fitted.arguments.values() if one is value] in ([], [type(value)])
    assert fitted.converted == 1


@pytest.mark.parametrize(
    "value",
    [
        *(
            3.5,
            "3.5",
            "abc",
            "",
            "1e400",
            "1e-400",
            "1e999999999",
            "1e-999999999",
            "3.00000000000000000001",
            "0x3",
            "3,0",
            "true",
        ),
        *("null", True, float("inf"), float("nan"), "NaN", "Infinity", 1e300, "9007199254740992.5", '"3"', [3], {}),
        *("9" * 5000, "1e99999999999999999999", "[" * 100_000, "03", "+3", "\u0663"),
    ],
)
def test_what_would_lose_something_is_malformed(value):
    assert "must be an integer" in (call_problem("str_replace_editor", {**INSERT, "insert_line": value}) or "")
    assert "two integers" in (call_problem("str_replace_editor", {**VIEW, "view_range": [value, 1]}) or "")


@pytest.mark.parametrize(
    "value", ["[1]", "[1, 2, 3]", "[1, 2.5]", "1, 2", "1-2", '{"0": 1, "1": 2}', {"0": 1}, "[1, null]"]
)
def test_what_is_no_range_is_malformed(value):
    assert "two integers" in (call_problem("str_replace_editor", {**VIEW, "view_range": value}) or "")


@pytest.mark.parametrize("value", [3.0, 1e300, True, ["x"], {"a": 1}, None])
def test_what_has_several_forms_is_no_text(value):
    assert "must be a string" in (call_problem("bash", {"command": value}) or "")


@given(number=st.integers(), form=st.sampled_from(["plain", "text", "fraction", "text of a fraction", "exponent"]))
def test_an_integer_in_any_form_is_that_integer(number, form):
    if "fraction" in form or form == "exponent":
        number %= 2**53
    written = {
        "plain": number,
        "text": str(number),
        "fraction": float(number),
        "text of a fraction": f"{number}.000",
        "exponent": f"{number * 1000}e-3",
    }[form]
    fitted = fit_call("str_replace_editor", {**INSERT, "insert_line": written})
    assert fitted.arguments["insert_line"] == number
    assert type(fitted.arguments["insert_line"]) is int
    assert fitted.converted == (form != "plain")
    assert fit_call("str_replace_editor", fitted.arguments) == (fitted.arguments, 0)  # once is enough


@given(value=st.floats() | st.text() | st.decimals().map(str))
def test_no_conversion_changes_a_number(value):
    arguments = {**INSERT, "insert_line": value}
    if call_problem("str_replace_editor", arguments) is None:
        assert Fraction(fit_call("str_replace_editor", arguments).arguments["insert_line"]) == Fraction(value)


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
