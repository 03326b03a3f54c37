"""What only a GPU shows: the same training as on the CPU, and FSDP2 as `configs/cluster/fsdp2.yaml` asks for it.

One GPU, so one process: FSDP2 shards over a mesh of one, with NCCL and everything else as it is for many.
"""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.testing.steps import save_tiny  # noqa: E402
from tests.train.outcome import metrics, weights  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.torch,
    pytest.mark.slow,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU"),
]
ROOT = Path(__file__).parents[2]
SHARDED = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "configs/cluster/fsdp2.yaml")]
SERVED = "servers={urls: ['http://127.0.0.1:9'], sync: file}"
"""Sharded training refuses to sample in its own process; scripted steps ask no server."""
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Trains the tiny policy on scripted steps; `launch` is what starts the script."""
    model = tmp_path / "model"
    save_tiny(model)

    def run(out: Path, launch: list[str], kill_at: str, *settings: str) -> Any:
        script = str(Path(__file__).with_name("killable.py"))
        command = [sys.executable, *launch, script, str(model), str(out), "4", kill_at, *settings]
        return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)

    return run


def test_a_gpu_trains_what_the_cpu_trains(run: Run, tmp_path: Path) -> None:
    gentle = "grpo={learning_rate: 1.0e-3}"
    for device in ("cpu", "cuda"):
        done = run(tmp_path / device, [], "0", f"device={device}", gentle)
        assert done.returncode == 0, done.stderr[-3000:]
    for here, there in zip(metrics(tmp_path / "cpu"), metrics(tmp_path / "cuda"), strict=True):
        for name in ("loss", "entropy", "grad_norm", "aem/response_entropy", "aem/alpha_std"):
            assert here[name] == pytest.approx(there[name], rel=2e-3, abs=1e-5), (name, here["step"])


def test_fsdp2_trains_and_resumes_after_a_kill(run: Run, tmp_path: Path) -> None:
    one = [*SHARDED, "--num_processes", "1"]
    settings = ("device=cuda", SERVED)
    undisturbed = run(tmp_path / "undisturbed", one, "0", *settings)
    assert undisturbed.returncode == 0, undisturbed.stderr[-3000:]
    killed = run(tmp_path / "killed", one, "3", *settings)
    assert killed.returncode in (1, -signal.SIGKILL)
    again = run(tmp_path / "killed", one, "0", *settings)
    assert again.returncode == 0, again.stderr[-3000:]
    assert [line["step"] for line in metrics(tmp_path / "killed")] == [1, 2, 3, 4]
    assert metrics(tmp_path / "killed") == metrics(tmp_path / "undisturbed")
    assert weights(tmp_path / "killed") == weights(tmp_path / "undisturbed")
