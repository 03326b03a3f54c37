import torch
from new_name import NewName

from swe_aem.testing.advantages import advantage_inputs


def test_failures_count_less_than_successes() -> None:
    inputs = advantage_inputs([1.0, 0.0, 0.0, None, 1.0, 1.0], group_size=4)  # None: it does not count
    advantage, metrics = NewName(negative=0.25)(inputs)
    torch.testing.assert_close(advantage, torch.tensor([2 / 3, -1 / 12, -1 / 12, 0.0, 0.0, 0.0]))
    assert abs(metrics["below_share"] - 2 / 6) < 1e-6
