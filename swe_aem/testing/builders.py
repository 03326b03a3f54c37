"""Builders of plausible tasks and trajectories; a test may replace each field."""

from typing import Any

from swe_aem.core import AnswerKey, Outcome, Response, Stop, Task, TaskRecord, TestStatus, ToolCall, Trajectory, Verdict


def make_record(task_id: str = "task-0", timeout_s: float = 5.0) -> TaskRecord:
    """A task that nothing needs to be installed for, with one test of each kind; `timeout_s` limits its evaluation."""
    task = Task(id=task_id, repo="o/r", base_commit="b" * 40, problem_statement="Fix it.", image="fake")
    key = AnswerKey(
        task_id=task_id,
        repo="o/r",
        version="1",
        gold_patch="gold",
        test_patch="tests",
        eval_script="true",
        log_parser="parse_log_pytest",
        eval_type="pass_and_fail",
        fail_to_pass=("t::a",),
        pass_to_pass=("t::b",),
        timeout_s=timeout_s,
    )
    return TaskRecord(task=task, key=key)


def make_trajectory(task_id: str, sample: int, **changes: Any) -> Trajectory:
    """A resolved trajectory of five tokens and one response with one tool call; `changes` replace its fields."""
    call = ToolCall(name="bash", arguments={"command": "ls"}, observation="a b", exit_code=0, wall_s=0.5)
    response = Response(
        start=2, end=4, logprobs=(-0.25, -1.5), version=3, finish_reason="stop", sample_s=2.0, tool_calls=(call,)
    )
    plain = Trajectory(
        task_id=task_id,
        sample=sample,
        agent="fake",
        model="fake-model",
        token_ids=(1, 2, 3, 4, 5),
        responses=(response,),
        messages=({"role": "user", "content": "Fix it."}, {"role": "assistant", "content": None, "tool_calls": []}),
        stop=Stop.SUBMITTED,
        patch="diff --git a/x b/x\n",
        outcome=Outcome.RESOLVED,
        reward=1.0,
        verdict=Verdict(resolved=True, patch_applied=True, fail_to_pass={"t::a": TestStatus.PASSED}),
        timings_s={"start": 0.1, "grade": 0.2},
    )
    return plain.model_copy(update=changes)
