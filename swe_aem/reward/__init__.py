"""Rewards: what a verdict pays. `docs/extend/reward.md` shows how to write one.

The outcome table decides which trajectories a reward function is asked about; everything else about a trajectory, its
outcome, its masks and whether it counts, is beyond its reach.
"""

from swe_aem.reward.config import REWARDS, RewardLike, RewardSetting, Term, setting_of, terms_of
from swe_aem.reward.rewards import RewardFunction, Rewards

__all__ = ["REWARDS", "RewardFunction", "RewardLike", "RewardSetting", "Rewards", "Term", "setting_of", "terms_of"]
