"""DeepSpeed's ZeRO-3 on two processes without a GPU: what is trained, streamed, written and resumed is what one process
makes of whole weights.

The tests install DeepSpeed beside the other packages; its first run compiles an operator, which needs a C++ compiler.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from swe_aem.testing.steps import ScriptedSteps, tiny_tokenizer  # noqa: E402
from swe_aem.train.export_checkpoint import export_checkpoint  # noqa: E402
from swe_aem.train.loop import train  # noqa: E402
from tests.train.killable import DEALT, configuration  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402
from tests.train.test_processes import run_both  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.nightly, pytest.mark.timeout(3600)]
NEEDED = ("hjson", "py-cpuinfo", "einops", "ninja", "msgpack")
HELDOUT = "heldout={every: 1, before: false, greedy: false}"


@pytest.fixture(scope="module")
def deepspeed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a process that can import DeepSpeed for CPUs, which is in a directory of its own."""
    place = tmp_path_factory.mktemp("deepspeed")
    path = os.pathsep.join([str(place / "packages"), os.environ.get("PYTHONPATH", "")])
    needed = {
        "DS_BUILD_OPS": "0",
        "DS_ACCELERATOR": "cpu",
        "TORCH_EXTENSIONS_DIR": str(place / "built"),
        "PYTHONPATH": path,
    }
    install = ["uv", "pip", "install", "--python", sys.executable, "--target", str(place / "packages"), "--no-deps"]
    for packages in (NEEDED, ("--no-build-isolation", "deepspeed==0.19.8")):
        done = subprocess.run(
            [*install, *packages], env=os.environ | needed, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    return needed


@pytest.mark.parametrize("architecture", ["qwen3", "qwen3_moe"])
def test_a_run_in_shards_of_zero3_is_that_of_one_process(
    architecture: str, deepspeed: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, run, again = tmp_path / "model", tmp_path / "run", tmp_path / "again"
    mixture(architecture).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    train(configuration(model, 2, *DEALT), tmp_path / "whole", ScriptedSteps)
    for name, value in deepspeed.items():
        monkeypatch.setenv(name, value)
    settings = (HELDOUT, *DEALT)
    for place, steps in ((run, "2"), (again, "1"), (again, "2")):
        for status, output in run_both("zero3_run", 200, str(model), str(place), steps, *settings):
            assert status == 0, output
    policy = load_file(run / "policy/model.safetensors")
    assert far(policy, load_file(model / "model.safetensors")) > 1e-3, "nothing was trained"
    assert far(policy, load_file(tmp_path / "whole/policy/model.safetensors")) < 1e-6
    assert far(policy, load_file(run / "evaluated/served-2.safetensors")) == 0
    assert far(policy, load_file(again / "policy/model.safetensors")) == 0, "it did not resume as it was"
    export_checkpoint(run, tmp_path / "exported")
    loaded = [AutoModelForCausalLM.from_pretrained(one).state_dict() for one in (run / "policy", tmp_path / "exported")]
    assert far(*loaded) == 0


def far(one: dict[str, Any], other: dict[str, Any]) -> float:
    """How far the farthest weight of two models is."""
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)
