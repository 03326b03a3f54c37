from new_name import NewName

import swe_aem as sa
from swe_aem.testing.builders import make_trajectory


def test_a_turn_costs_what_the_settings_say() -> None:
    trajectory = make_trajectory("task", 0)
    assert len(trajectory.responses) == 1
    verdict = sa.Verdict(resolved=False, patch_applied=True, fail_to_pass_fraction=0.5)
    assert NewName()(trajectory, verdict) == 0.5 * 0.99
    assert NewName(turn_cost=0.5)(trajectory, verdict) == 0.25
    assert NewName(turn_cost=2)(trajectory, verdict) == 0.0
