"""Rejection fine-tuning: what is learned from, where the loss is, that it learns, and that it resumes."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the train extra")
pytest.importorskip("trl", reason="needs the train extra")

from safetensors.torch import load_file  # noqa: E402

from swe_aem.core import Outcome, Response, Trajectory  # noqa: E402
from swe_aem.errors import UserError  # noqa: E402
from swe_aem.policy import tokenizer_fingerprint  # noqa: E402
from swe_aem.rollout import RolloutConfig, claim  # noqa: E402
from swe_aem.store import Store  # noqa: E402
from swe_aem.store.files import locked  # noqa: E402
from swe_aem.testing.steps import save_tiny, tiny_tokenizer  # noqa: E402
from swe_aem.train.checkpoints import latest  # noqa: E402
from swe_aem.train.sft import SFTConfig, collect, fine_tune, row  # noqa: E402
from tests.train.killable_sft import SETTINGS, ending, random_rows  # noqa: E402
from tests.train.mixtures import mixture  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.contract(trl=True, transformers=True)]


def trajectory(task: int, sample: int = 0, *, outcome: Outcome = Outcome.RESOLVED, tail: int = 9) -> Trajectory:
    spans = ((2, 4), (6, 8))
    responses = tuple(
        Response(start=start, end=end, logprobs=(-1.0, -1.0), version=0, finish_reason="stop", sample_s=0.0)
        for start, end in spans
    )
    return Trajectory(
        task_id=f"t{task}",
        sample=sample,
        agent="native",
        model="m",
        token_ids=(2, 3, 4, 5, 6, 7, 8, tail),
        responses=responses,
        outcome=outcome,
        reward=float(outcome is Outcome.RESOLVED),
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory with the tokenizer of the tiny model."""
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


@pytest.fixture
def store(tmp_path: Path, model: Path) -> Callable[..., Path]:
    """Makes a store of ids of the tiny model's tokenizer."""

    def make(*trajectories: Trajectory) -> Path:
        with Store(tmp_path / "store").writer() as writer:
            for one in trajectories:
                writer.append(one)
        config = RolloutConfig(agent="demo", tokenizer=str(model))
        claim(tmp_path / "store", config, [], stored_tasks=[], tokenizer=tokenizer_fingerprint(str(model)))
        return tmp_path / "store"

    return make


def test_the_loss_is_on_responses_and_the_tokens_are_the_stored_ones() -> None:
    one = row(trajectory(0))
    assert one["input_ids"] == [2, 3, 4, 5, 6, 7, 8, 9]
    assert one["labels"] == [-100, -100, 4, 5, -100, -100, 8, 9]
    assert row(trajectory(0), everything=True)["labels"] == one["input_ids"]


def test_only_resolved_trajectories_are_learned_from_each_once(store: Callable[..., Path], model: Path) -> None:
    directory = store(
        trajectory(0),
        trajectory(1),  # the same tokens
        trajectory(2, outcome=Outcome.UNRESOLVED, tail=10),
        trajectory(3, outcome=Outcome.TURN_LIMIT, tail=11),
        trajectory(4, 0, tail=12),
        trajectory(4, 1, tail=13),
    )
    found = collect([directory], model, SFTConfig(per_task=1))
    assert [one["input_ids"][-1] for one in found.rows] == [9, 12]
    assert (found.resolved, found.repeated, found.surplus, found.too_long) == (4, 1, 1, 0)
    assert collect([directory], model, SFTConfig(max_tokens=8)).too_long == 0
    with pytest.raises(UserError, match="no resolved trajectory"):
        collect([directory], model, SFTConfig(max_tokens=7))
    with pytest.raises(UserError, match="no such directory"):
        collect([directory / "nothing"], model, SFTConfig())


def test_a_store_of_another_tokenizer_is_refused_although_the_model_has_all_its_ids(
    store: Callable[..., Path], model: Path
) -> None:
    directory, other = store(trajectory(0)), "configs/quickstart/policy"
    wanted = (
        rf"{directory} holds token ids of the tokenizer [0-9a-f]{{16}} \({model}\), and that of {other} is "
        rf"[0-9a-f]{{16}}: .*a store that was rolled out with --tokenizer {other}"
    )
    with pytest.raises(UserError, match=wanted):
        collect([directory], Path(other), SFTConfig())
    (directory / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json, which names the tokenizer of its token ids"):
        collect([directory], model, SFTConfig())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_learns_what_was_said(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_tiny(model, sharpness=1.0)
    rows = [row(trajectory(0))] * 8
    settings = SFTConfig(epochs=30, learning_rate=0.02, batch_size=8, warmup_share=0)
    fine_tune(model, rows, tmp_path / "out", settings)

    def loss(directory: Path) -> float:
        from swe_aem.train.models import load_model

        batch = {name: torch.tensor([values]) for name, values in rows[0].items()}
        with torch.no_grad():
            return float(load_model(directory)(**batch).loss)

    assert loss(tmp_path / "out") < 0.1 < 1.0 < loss(model)


ROWS = [row(trajectory(0)), row(trajectory(1, tail=10))]
SHORT = SFTConfig(epochs=1, batch_size=2)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """What one step makes of a tiny model beside it."""
    save_tiny(tmp_path / "model")
    fine_tune(tmp_path / "model", ROWS, tmp_path / "out", SHORT)
    return tmp_path / "out"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("torn", [False, True])
def test_a_rerun_resumes_from_the_last_whole_checkpoint(trained: Path, torn: bool) -> None:
    before = (trained / "model.safetensors").read_bytes()
    if torn:  # as a process that was killed while it saved leaves it
        (trained / "checkpoints/checkpoint-2").mkdir()
        (trained / "checkpoints/checkpoint-2/model.safetensors").write_bytes(before[:100])
    figures = fine_tune(trained.parent / "model", ROWS, trained, SHORT)
    assert figures["train_loss"] == 0  # no step was left
    assert (trained / "model.safetensors").read_bytes() == before
    assert [path.name for path in (trained / "checkpoints").glob("checkpoint-*")] == ["checkpoint-1"]


@pytest.mark.filterwarnings("ignore")
def test_a_rerun_with_another_model_trajectories_or_settings_is_refused_by_name(trained: Path) -> None:
    model, other = trained.parent / "model", trained.parent / "other"
    faster = SHORT.model_copy(update={"learning_rate": 1e-4})
    for model_now, rows, settings, difference in (
        (model, ROWS, faster, r"another run: learning_rate was 1e-05 and is now 0\.0001\. Choose another --out"),
        (model, ROWS[:1], SHORT, 'another run: trajectories was "2, digest .*" and is now "1, digest .*"'),
        (model, ROWS[::-1], SHORT, "another run: trajectories was"),
        (other, ROWS, SHORT, 'another run: model was ".*/model" and is now ".*/other"'),
    ):
        with pytest.raises(UserError, match=difference):
            fine_tune(model_now, rows, trained, settings)


@pytest.mark.filterwarnings("ignore")
def test_two_at_a_time_do_not_write_one_directory(trained: Path) -> None:
    with locked(trained / "checkpoints"), pytest.raises(UserError, match="is being written by process"):
        fine_tune(trained.parent / "model", ROWS, trained, SHORT)


def test_checkpoints_that_nothing_is_known_of_are_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "checkpoints/checkpoint-1").mkdir(parents=True)
    with pytest.raises(UserError, match=r"no sft\.json, which says what they were trained with: choose another --out"):
        fine_tune(tmp_path / "model", ROWS, tmp_path, SHORT)
    assert (tmp_path / "checkpoints/checkpoint-1").is_dir()


def test_a_model_with_too_few_ids_is_refused(tmp_path: Path) -> None:
    model = tmp_path / "model"
    save_tiny(model)
    with pytest.raises(UserError, match="another tokenizer"):
        fine_tune(model, [{"input_ids": [2, 500], "labels": [2, 500]}], tmp_path / "out", SFTConfig())
    with pytest.raises(UserError, match="no model that transformers can load"):
        fine_tune(tmp_path / "none", [{"input_ids": [2], "labels": [2]}], tmp_path / "out", SFTConfig())


class Killed(BaseException):
    """Ends a training where a signal would."""


def killed_in_this_process(model: Path, out: Path, kill_at: str) -> None:
    def end() -> None:
        raise Killed

    with pytest.raises(Killed), ending(kill_at, end):
        fine_tune(model, random_rows(), out, SETTINGS)


def killed_by_a_signal(model: Path, out: Path, kill_at: str) -> None:
    script = [sys.executable, str(Path(__file__).with_name("killable_sft.py")), str(model), str(out), kill_at]
    assert subprocess.run(script, capture_output=True, check=False).returncode == -signal.SIGKILL


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("architecture", "kill_at", "killed"),
    [
        ("qwen3_moe", "10", killed_in_this_process),
        *(
            pytest.param(architecture, kill_at, killed_by_a_signal, marks=pytest.mark.nightly)
            for architecture in ("qwen3", "qwen3_moe", "gpt_oss")
            for kill_at in ("3", "10", "13", "18", "save")
        ),
    ],
)
def test_a_killed_training_resumes_bit_for_bit(
    architecture: str, kill_at: str, killed: Callable[[Path, Path, str], None], tmp_path: Path
) -> None:
    """In the middle of an epoch, in the middle of an update, and with all experts of a mixture."""
    model = tmp_path / "model"
    mixture(architecture).save_pretrained(model)
    tiny_tokenizer().save_pretrained(model)
    fine_tune(model, random_rows(), tmp_path / "undisturbed", SETTINGS)
    killed(model, tmp_path / "out", kill_at)
    last = latest(tmp_path / "out/checkpoints")
    done = {"3": None, "10": "checkpoint-4", "13": "checkpoint-6", "18": "checkpoint-8", "save": "checkpoint-2"}
    assert (last and last.name) == done[kill_at]
    fine_tune(model, random_rows(), tmp_path / "out", SETTINGS)
    undisturbed = tmp_path / "undisturbed"
    files = [one for one in undisturbed.iterdir() if one.is_file()]
    assert {one.name for one in files} >= {"config.json", "model.safetensors", "tokenizer.json"}
    for one in files:
        assert (tmp_path / "out" / one.name).read_bytes() == one.read_bytes(), one.name
    first, trained = (load_file(path / "model.safetensors") for path in (model, undisturbed))
    still = {name for name, one in first.items() if torch.equal(one, trained[name])}
    assert not {name for name in still if "experts" in name}, "they were not trained"


def test_the_model_has_the_data_type_of_the_first_one(tmp_path: Path) -> None:
    """It is trained in float32 whatever that is."""
    save_tiny(tmp_path / "model", dtype=torch.bfloat16)
    fine_tune(tmp_path / "model", ROWS, tmp_path / "out", SHORT)
    assert {one.dtype for one in load_file(tmp_path / "out/model.safetensors").values()} == {torch.bfloat16}
    assert json.loads((tmp_path / "out/config.json").read_text())["dtype"] == "bfloat16"
