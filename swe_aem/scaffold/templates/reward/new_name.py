"""A reward: what a trajectory is paid."""

import swe_aem as sa


class NewName(sa.Settings):
    """The share of the tests that had to be fixed and pass now, less a share of it for every turn."""

    turn_cost: float = 0.01
    """Share that a turn costs."""

    def __call__(self, trajectory: sa.Trajectory, verdict: sa.Verdict) -> float:
        """What one trajectory is paid, 0 or more. Asked where the outcome says something about the policy."""
        turns = len(trajectory.responses)
        return verdict.fail_to_pass_fraction * max(0.0, 1.0 - self.turn_cost * turns)
