"""Which servers are known to have the weights that training begins with."""

import os
import shutil

import pytest

from swe_aem.policy.vllm import VllmClientConfig, VllmPolicy
from swe_aem.serve.starting import label_of_sent, starting_label
from swe_aem.serve.sync import WeightSync
from swe_aem.testing.vllm import SimulatedVllm
from tests.serve.conftest import QUICKSTART


@pytest.mark.parametrize(
    ("label", "paused", "version"), [("start-1", False, 0), ("start-2", False, None), ("start-1", True, None)]
)
async def test_servers_with_the_label_of_the_start_have_version_0_unless_an_update_may_be_unfinished(
    label, paused, version
):
    async with SimulatedVllm() as one, SimulatedVllm() as two:
        one.weights, two.weights, two.paused = "start-1", label, paused
        async with VllmPolicy(VllmClientConfig(urls=(one.url, two.url))) as policy:
            sync = WeightSync(policy, starting="start-1")
            await sync.open()
            assert sync.version == version
            await sync.close()


def test_a_label_is_of_the_same_files_unchanged(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(QUICKSTART, model)
    (weights,) = model.glob("*.safetensors")
    label = starting_label(str(model))
    linked = tmp_path / "linked"
    linked.symlink_to(model)
    assert starting_label(str(linked)) == label
    assert starting_label(str(QUICKSTART)) != label, "another file may change on its own"
    os.utime(weights, ns=(0, 0))
    assert starting_label(str(model)) != label
    assert starting_label("Qwen/Qwen3-8B") is None


def test_weights_that_a_cast_changes_are_sent():
    label = starting_label(str(QUICKSTART))

    def found(trained, sent):
        return label_of_sent(str(QUICKSTART), trained=trained, sent=sent)

    assert found("float32", "float32") == label
    assert found("float32", "bfloat16") is None
    assert found("bfloat16", "float32") is None
