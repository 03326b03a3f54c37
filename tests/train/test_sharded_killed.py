"""A sharded run of which one process, or both, are killed around the writing of a checkpoint is, repeated, the run that
was never killed, bit for bit."""

import json
import signal
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from swe_aem.testing.steps import tiny_tokenizer  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402
from tests.train.outcome import metrics, weights  # noqa: E402
from tests.train.saved_twice import files  # noqa: E402
from tests.train.test_processes import run_both  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.slow, pytest.mark.timeout(1200)]
LIMIT_S = 60
WHOLE = "checkpoint-4"
"""The checkpoint that is being written when processes are killed; the one before is of two updates less."""


def scenes(moment: str, *who: str) -> tuple[str, ...]:
    return tuple(f"{moment}-{one}" for one in who)


@pytest.mark.parametrize(
    ("architecture", "scenes"),
    [
        ("qwen3", scenes("torn", "both")),
        pytest.param("qwen3_moe", scenes("model", "both"), marks=pytest.mark.nightly),
        *(
            pytest.param("qwen3", scenes(moment, "0", "1", "both"), marks=pytest.mark.nightly)
            for moment in ("copied", "begun", "torn", "model", "written", "marked", "whole")
        ),
    ],
)
def test_a_killed_sharded_run_resumes_bit_for_bit(architecture: str, scenes: tuple[str, ...], tmp_path: Path) -> None:
    """The checkpoint that was being written counts only where all of it was there."""
    mixture(architecture).to(torch.bfloat16).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    both = run_both("sharded_killed", LIMIT_S, str(tmp_path / "model"), str(tmp_path), *scenes)
    played = []
    for status, output in both:
        assert status == 0, output
        lines = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
        played.append({scene: line for scene, *line in lines})
    undisturbed = tmp_path / "undisturbed"
    for scene in scenes:
        moment, who = scene.split("-")
        for rank, mine in enumerate(played):
            ended, last, again = mine[scene]
            assert ended == -signal.SIGKILL if who in (str(rank), "both") else ended > 0, scene
            outlived = moment in ("written", "marked") and who == "1"
            assert last == (WHOLE if moment == "whole" or outlived else "checkpoint-2"), scene
            assert again == 0, scene
        assert metrics(tmp_path / scene) == metrics(undisturbed)
        assert weights(tmp_path / scene) == weights(undisturbed)
        found, expected = (files(run / "checkpoints") for run in (tmp_path / scene, undisturbed))
        assert found.keys() == expected.keys()
        assert not list((tmp_path / scene / "checkpoints/unfinished").glob("*"))
