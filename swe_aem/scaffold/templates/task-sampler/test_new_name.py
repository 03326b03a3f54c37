from new_name import NewName

import swe_aem as sa
from swe_aem.testing.builders import make_record


def test_resolved_tasks_are_chosen_less_often() -> None:
    tasks = [make_record("easy"), make_record("hard")]
    history = [
        sa.SampledGroup(
            step=1,
            task_id=record.task.id,
            outcomes=(sa.Outcome.RESOLVED if resolved else sa.Outcome.UNRESOLVED,),
            resolved=(resolved,),
            rewards=(float(resolved),),
        )
        for record, resolved in zip(tasks, (True, False), strict=True)
    ]
    inputs = sa.TaskSamplerInputs(tasks=tasks, step=2, count=1000, seed=7, history=history)
    chosen = NewName(again=0.1)(inputs)
    assert len(chosen) == 1000
    assert 0 < chosen.count("easy") < 250
    assert set(NewName(again=0)(inputs)) == {"hard"}
