"""The page of a trajectory: it says why, shows all there is, and is harmless and bounded whatever is in it."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.core import Branch, Outcome, Response, Stop, TestStatus, ToolCall, Trajectory, Verdict
from swe_aem.testing.builders import make_trajectory
from swe_aem.view.html import readable
from swe_aem.view.site import NotThere
from swe_aem.view.story.clip import plain
from tests.view.pages import SKELETON, Parsed, page, store_with

TAGS = SKELETON | {"p", "span", "section", "article", "h2", "h3", "dl", "dt", "dd", "ul", "svg", "rect", "pre", "code"}
TAGS |= {"details", "summary", "table", "thead", "tbody", "tr", "th", "td", "div", "b"}
ATTRIBUTES = {
    "lang",
    "charset",
    "name",
    "content",
    "href",
    "rel",
    "src",
    "defer",
    "class",
    "id",
    "aria-label",
    "tabindex",
}
ATTRIBUTES |= {"aria-labelledby", "aria-current", "data-key", "scope", "title", "open", "role", "width", "height", "x"}
ATTRIBUTES |= {"y", "viewbox", "preserveaspectratio"}
MISSING, PASSED, FAILED = TestStatus.MISSING, TestStatus.PASSED, TestStatus.FAILED


def shown(directory: Path, one: Trajectory, **query: str) -> str:
    shutil.rmtree(directory, ignore_errors=True)
    store_with(directory, one)
    return page(directory, "trajectory", query, task=one.task_id, sample=str(one.sample))


def test_it_says_at_the_top_why_there_is_no_reward_and_where_to_look(tmp_path: Path) -> None:
    verdict = Verdict(
        resolved=False,
        patch_applied=True,
        fail_to_pass={"t::a": FAILED, "t::b": PASSED},
        pass_to_pass={"t::c": PASSED, "t::d": MISSING},
        stripped_files=("conftest.py (configures the test runner)",),
        log_tail="E assert 1 == 2",
    )
    patch = "diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n@@ -1,2 +1,2 @@ def f():\n-a\n+b\n c\n"
    patch += "diff --git a/conftest.py b/conftest.py\nnew file mode 100644\n--- /dev/null\n+++ b/conftest.py\n"
    patch += "@@ -0,0 +1 @@\n+x\n"
    changes: dict[str, Any] = {"outcome": Outcome.UNRESOLVED, "reward": 0.0, "verdict": verdict, "patch": patch}
    html = shown(tmp_path / "run", make_trajectory("task", 0, **changes))
    found = Parsed(html)
    why = "1 of 2 FAIL_TO_PASS tests still fail: t::a. "
    why += "1 of 2 PASS_TO_PASS tests pass no more, all missing in the log: t::d. "
    why += "Grading left out 1 file (conftest.py (configures the test runner)) of its patch. Its reward is 0."
    assert why in " ".join(found.text.split())
    wanted = {link.partition("#")[2] for link in found.links if "#" in link}
    assert {"fail-to-pass-failing", "pass-to-pass-failing", "patch", "reward"} <= wanted
    assert wanted <= set(found.ids) | {""}
    assert len(found.ids) == len(set(found.ids))
    assert "left out by grading: configures the test runner" in html
    assert re.search(r'\+1</span> <span class="removed">−1', html)
    assert '<span class="add">+b\n</span>' in html
    assert "E assert 1 == 2" in html


def test_turns_show_what_was_called_and_what_came_back(tmp_path: Path) -> None:
    edit = {"command": "str_replace", "path": "a.py", "old_str": "x\ny\nz", "new_str": "x\nY\nz"}
    calls = (
        ToolCall(
            name="bash", arguments={"command": "ls\npwd"}, observation="\x1b[31mred\x1b[0m", exit_code=2, wall_s=3.0
        ),
        ToolCall(name="str_replace_editor", arguments=edit, observation="Edited."),
        ToolCall(name="search", arguments={"words": ["a"], "deep": True}, timed_out=True),
        ToolCall(name="bash", arguments={"raw": "{broken"}, status="malformed", observation="not JSON"),
    )
    response = Response(
        start=2, end=4, logprobs=(-0.25, -1.5), version=3, finish_reason="stop", sample_s=2.0, tool_calls=calls
    )
    said = {"role": "assistant", "content": "I look.", "reasoning_content": "Where is it?"}
    messages = ({"role": "user", "content": "Fix it."}, said, {"role": "user", "content": "Call a tool."})
    html = shown(tmp_path / "run", make_trajectory("t", 0, responses=(response,), messages=messages))
    text = " ".join(Parsed(html).text.split())
    for wanted in (
        "Where is it? I look. bash ls pwd exit code 2 · 3 s red",
        "str_replace_editor str_replace a.py x -y +Y z",
        'search words ["a"] deep true timed out',
        "bash malformed raw {broken 0 s not JSON",
        "user Call a tool.",
        "turn 1 2 tokens · surprisal 0.875 nats",
    ):
        assert wanted in text
    assert '<span class="ansi-31">red</span>' in html


def test_branches_attempts_and_a_failure_without_a_verdict(tmp_path: Path) -> None:
    response = Response(start=1, end=2, logprobs=(-1.0,), version=0, finish_reason="length", sample_s=0.1)
    branch = Branch(token_ids=(1, 2), responses=(response,), messages=({"role": "assistant", "content": "elsewhere"},))
    changes: dict[str, Any] = {"outcome": Outcome.INFRASTRUCTURE, "reward": None, "verdict": None, "attempt": 2}
    one = make_trajectory("t", 0, branches=(branch,), error="StartError: no disk", stop=None, **changes)
    text = " ".join(Parsed(shown(tmp_path / "run", one)).text.split())
    assert (
        "Infrastructure failed in each of 3 attempts, which says nothing about the policy: StartError: no disk." in text
    )
    assert "branch 1: 1 turns, 2 tokens" in text
    assert "elsewhere" in text
    assert "Turns of branch 1" in shown(tmp_path / "run", one, stream="1")
    for other in ("2", "0000000019", "\N{SUPERSCRIPT TWO}"):
        for name in ("trajectory", "tokens"):
            with pytest.raises(NotThere, match=f"no branch {other}"):
                page(tmp_path / "run", name, {"stream": other}, task="t", sample="0")


def test_evidence_in_a_branch_leads_to_the_branch(tmp_path: Path) -> None:
    call = ToolCall(name="bash", arguments={"command": "pytest -q"}, observation="1 passed")
    response = Response(
        start=1, end=2, logprobs=(-1.0,), version=0, finish_reason="stop", sample_s=0.1, tool_calls=(call,)
    )
    branch = Branch(token_ids=(1, 2), responses=(response,))
    found = Parsed(shown(tmp_path / "run", make_trajectory("t", 0, branches=(branch,))))
    assert "/run/trajectory/t/0?stream=1#b1.t1" in found.links
    assert "turn 1 of branch 1" in found.text


def test_evidence_in_messages_leads_to_the_turn_that_says_it(tmp_path: Path) -> None:
    response = Response(start=2, end=4, logprobs=(-0.25, -1.5), version=3, finish_reason="stop", sample_s=2.0)
    said = {"role": "assistant", "content": "```bash\npytest -q\n```"}
    shot = {"role": "assistant", "content": "```bash\ngit reflog\n```"}
    messages = ({"role": "user", "content": "For example:"}, shot, {"role": "user", "content": "Fix it."}, said)
    branch = Branch(token_ids=(1, 2, 3, 4), responses=(response,), messages=(said,))
    one = make_trajectory("t", 0, agent="other", responses=(response,), messages=messages, branches=(branch,))
    found = Parsed(shown(tmp_path / "run", one))
    assert "/run/trajectory/t/0#t1" in found.links
    assert "turn 1 of branch" not in found.text
    assert "label-searches_history" not in found.ids  # an example in the prompt is no deed of the policy


def test_members_of_a_group_lead_to_each_other(tmp_path: Path) -> None:
    ones = [make_trajectory("t", n, reward=float(n)) for n in range(2)]
    directory = store_with(tmp_path / "run", *ones, make_trajectory("other", 0))
    found = Parsed(page(directory, "trajectory", task="t", sample="0"))
    assert "/run/trajectory/t/1" in found.links
    with pytest.raises(NotThere):
        page(directory, "trajectory", task="t", sample="7")
    with pytest.raises(NotThere):
        page(directory, "trajectory", task="t", sample="x")


HOSTILE = st.text(st.characters(exclude_categories=()), max_size=30) | st.sampled_from(
    [
        "</pre><script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "\x1b[31;1m\x1b]0;title\x07",
        "\u202etxt",
        "\0",
        "{{ 7 * 7 }}",
        "diff --git a/<b> b/<b>\n@@ -1 +1 @@\n+<i>",
        "\udcff",
        "javascript:alert(1)",
        "'\"`\\",
        "--- \n+++ ",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=8)
@given(st.lists(HOSTILE, min_size=12, max_size=12))
def test_whatever_stands_in_a_trajectory_is_text(tmp_path: Path, texts: list[str]) -> None:
    name, argument, key, seen, said, thought, test, path, line, log, patch, role = texts
    calls = (
        ToolCall(name=name, arguments={"command": argument, key: argument}, observation=seen),
        ToolCall(name="edit", arguments={"path": path, "old_str": argument, "new_str": seen}),
    )
    response = Response(
        start=2, end=4, logprobs=(-0.25, -1.5), version=3, finish_reason="stop", sample_s=2.0, tool_calls=calls
    )
    verdict = Verdict(
        resolved=False,
        patch_applied=True,
        fail_to_pass={test: FAILED},
        stripped_files=(path,),
        integrity=(line,),
        odd_once=(line,),
        cause=line,
        log_tail=log,
    )
    messages = (
        {"role": role, "content": said},
        {"role": "assistant", "content": said, "reasoning_content": thought, "tool_calls": [{"function": argument}]},
        {"role": role, "content": [{"text": seen}, {"image": key}]},
    )
    one = make_trajectory(
        f"task-{path}",
        0,
        agent=name,
        model=name,
        responses=(response,),
        messages=messages,
        verdict=verdict,
        patch=patch,
        error=line,
        outcome=Outcome.INTEGRITY_VIOLATION,
        reward=0.0,
        reward_terms={key: 1.0},
        timings_s={"agent": 1.0, key: 2.0},
    )
    html = shown(tmp_path / "run", one)
    found = Parsed(html)
    assert found.tags <= TAGS
    assert found.attributes <= ATTRIBUTES
    assert all(link.startswith(("/", "#", "data:,")) for link in found.links)
    assert readable(html) == html
    assert readable(plain(said)).strip() in found.text


def huge() -> Trajectory:
    """Texts, turns and tests without measure."""
    call = ToolCall(name="bash", arguments={"command": "x\n" * 30_000}, observation="<&\x1b[31m" * 60_000)
    small = ToolCall(name="bash", arguments={"command": "<" * 5_000}, observation="&'\u202e\x1b[32m" * 2_000)
    responses = [
        Response(
            start=n,
            end=n + 1,
            logprobs=(-1.0,),
            version=0,
            finish_reason="stop",
            sample_s=0.1,
            tool_calls=(call,) if n in (1, 999) else (small,) * 3 if n < 60 else (),
        )
        for n in range(1_000)
    ]
    verdict = Verdict(
        resolved=False,
        patch_applied=True,
        fail_to_pass={f"<t>::{n}": FAILED for n in range(20_000)},
        stripped_files=tuple(f"<f>{n} (no)" for n in range(1_000)),
        log_tail="<\n" * 100_000,
    )
    section = "diff --git a/{0} b/{0}\n--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n" + "-<\n+&\n" * 5_000
    return make_trajectory(
        "t",
        0,
        token_ids=tuple(range(1_001)),
        responses=tuple(responses),
        messages=({"role": "user", "content": "<" * 1_000_000},),
        verdict=verdict,
        patch="".join(section.format(n) for n in range(20)),
        outcome=Outcome.TURN_LIMIT,
        stop=Stop.TURN_LIMIT,
        reward=0.0,
    )


@pytest.mark.slow
def test_the_page_is_bounded_and_the_whole_can_be_had(tmp_path: Path) -> None:
    one = huge()
    directory = store_with(tmp_path / "run", one)
    first = page(directory, "trajectory", task="t", sample="0")
    assert len(first.encode()) < 2_000_000
    found = Parsed(first)
    assert "It used all its turns, 1,000, before it submitted." in found.text
    assert "20,000 of 20,000 FAIL_TO_PASS tests still fail: <t>::0, <t>::1, <t>::2 and 19,997 more." in found.text
    assert "/run/trajectory/t/0?from=51#turns" in found.links
    last = Parsed(page(directory, "trajectory", {"from": "1000"}, task="t", sample="0"))
    assert "turns 951 to 1000 of 1,000" in last.text.replace("\n", " ")
    whole = [link for link in found.links if "/text?place=t2.c1.observation" in link]
    assert whole
    place = {"place": "t2.c1.observation", "from": "99999999"}
    text = page(directory, "text", place, task="t", sample="0")
    assert "of 420,000" in text
    assert len(text.encode()) < 2_000_000
