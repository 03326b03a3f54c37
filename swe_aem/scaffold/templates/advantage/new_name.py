"""An advantage estimator: how much better than expected each trajectory of a batch was."""

import torch

import swe_aem as sa


class NewName(sa.Settings):
    """A reward less the mean of its group; what is below the mean counts less than what is above it."""

    negative: float = 0.5
    """Factor of advantages below 0."""

    def __call__(self, inputs: sa.AdvantageInputs) -> tuple[torch.Tensor, dict[str, float]]:
        """Advantages of the B trajectories, (B,), and metrics; (B, T) would be one for each token."""
        advantage = torch.zeros_like(inputs.reward)
        for group in inputs.group.unique():
            rows = (inputs.group == group) & inputs.counts  # the others have no reward, and an advantage of 0
            advantage[rows] = inputs.reward[rows] - inputs.reward[rows].mean()
        below = advantage < 0
        return torch.where(below, self.negative * advantage, advantage), {"below_share": float(below.float().mean())}
