"""`sa.train(advantage=...)`: what a configuration becomes of an object that is handed over."""

from pathlib import Path
from typing import Any

import pytest

import swe_aem as sa
from swe_aem.advantage.config import AEMConfig, BaselineConfig, OwnAdvantageConfig
from swe_aem.train import used
from swe_aem.train.config import TrainConfig
from swe_aem.train.directory import claim_run_directory
from swe_aem.train.used import training_extensions


def halved(inputs: sa.AdvantageInputs) -> Any:
    return inputs.reward / 2


class Scaled(sa.Settings):
    by: float = 1.0

    def __call__(self, inputs: sa.AdvantageInputs) -> Any:
        return inputs.reward * self.by


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What would be trained."""
    seen: list[TrainConfig] = []
    monkeypatch.setattr("swe_aem.api.training.start_training", lambda config, directory: seen.append(config))

    def train(advantage: Any) -> TrainConfig:
        sa.train("configs/quickstart.yaml", advantage=advantage)
        return seen[-1]

    return train


def test_settings_and_names(trained: Any) -> None:
    assert trained(None).advantage == AEMConfig()
    assert trained({"lam": 0.5}).advantage == AEMConfig(lam=0.5)
    assert trained("max_rl").advantage == BaselineConfig(estimator="max_rl")
    assert trained({"estimator": "max_rl"}).advantage == BaselineConfig(estimator="max_rl")


@pytest.mark.torch
def test_what_is_built_in_stays_so(trained: Any) -> None:
    pytest.importorskip("torch", reason="needs the transformers extra")
    from swe_aem.advantage.aem import AEM
    from swe_aem.advantage.baselines import leave_one_out

    assert trained(AEM(lam=2.0)).advantage == AEMConfig(lam=2.0)
    assert trained(leave_one_out).advantage == BaselineConfig(estimator="leave_one_out")
    assert training_extensions(trained(AEM(lam=2.0))) == {}


def test_an_object_of_ones_own_is_named_and_recorded(trained: Any) -> None:
    assert trained(halved).advantage == OwnAdvantageConfig(estimator=f"{__name__}:halved")
    scaled = trained(Scaled(by=2.0))
    assert scaled.advantage.of_estimator() == {"estimator": f"{__name__}:Scaled", "by": 2.0}
    assert "sha256:" in training_extensions(scaled)["advantage"]


def test_a_rerun_with_other_code_is_refused(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = trained(halved)
    (tmp_path / "run" / "checkpoints" / "checkpoint-1").mkdir(parents=True)
    claim_run_directory(config, tmp_path / "run")
    claim_run_directory(config, tmp_path / "run")
    monkeypatch.setattr(used, "identities", lambda name, point, value: {name: "other code"})
    with pytest.raises(sa.errors.UserError, match=r"advantage was the code of .* and is now the code of other code"):
        claim_run_directory(config, tmp_path / "run")
