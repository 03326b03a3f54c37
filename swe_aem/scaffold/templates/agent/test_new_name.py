from pathlib import Path

from new_name import NewName

import swe_aem as sa


def test_the_gold_patch_is_applied_by_its_tools_and_resolves_a_task(tmp_path: Path) -> None:
    tasks = sa.load_tasks("tasks/micro", limit=1)
    run = sa.rollout(tasks, agent=NewName(command_timeout_s=30), policy="gold", out=tmp_path)
    (trajectory,) = run.trajectories()
    assert trajectory.outcome is sa.Outcome.RESOLVED
    assert [call.name for response in trajectory.responses for call in response.tool_calls] == ["run"]
