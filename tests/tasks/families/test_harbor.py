"""Harbor task folders to records; the folder is made by the published format, not a real one."""

import shutil
from pathlib import Path

import pytest

from swe_aem.errors import UserError
from swe_aem.tasks import load_tasks

FOLDER = Path(__file__).parents[2] / "data" / "families" / "harbor" / "add-numbers"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the task, to be spoiled."""
    return Path(shutil.copytree(FOLDER, tmp_path / "set" / FOLDER.name))


def test_a_folder_and_a_directory_of_folders() -> None:
    (record,) = load_tasks(str(FOLDER))
    assert load_tasks(str(FOLDER.parent)).records == (record,)
    assert (record.task.id, record.task.workdir, record.task.base_commit) == ("add-numbers", "/app", "")
    assert "Make it give the sum" in record.task.problem_statement
    assert set(record.key.files) == {"/tests/test.sh", "/tests/test_state.py"}
    assert record.key.gold_command == "bash /solution/solve.sh"
    assert "export EXPECTED=5\n" in record.key.eval_script
    assert record.key.timeout_s == 60.0
    assert type(record).model_validate_json(record.model_dump_json()) == record


def test_an_image_that_has_to_be_built_is_named_with_the_command(folder: Path) -> None:
    tasks = load_tasks(str(folder))
    image = tasks.records[0].task.image
    assert image.startswith("swe-aem/harbor-add-numbers:")
    assert tasks.notes == (
        f"1 tasks name no docker_image; `swe-aem images build --tasks {folder}` builds their images",
    )
    (folder / "environment" / "Dockerfile").write_text("FROM other\nWORKDIR /srv\nWORKDIR app\n")
    changed = load_tasks(str(folder)).records[0].task
    assert changed.image != image
    assert changed.workdir == "/srv/app"


def test_an_image_that_the_task_names(folder: Path) -> None:
    config = folder / "task.toml"
    named = 'docker_image = "org/name:tag"\nworkdir = "/repo"\n'
    config.write_text(config.read_text().replace("[environment]\n", f"[environment]\n{named}"))
    tasks = load_tasks(str(folder))
    assert (tasks.records[0].task.image, tasks.records[0].task.workdir) == ("org/name:tag", "/repo")
    assert tasks.notes == ()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("task.toml", "[", "task.toml: cannot be read"),
        ("task.toml", "verifier = 1", "'verifier' is not a table"),
        ("task.toml", "[verifier]\ntimeout_sec = -1", "timeout_sec is not a positive number"),
        ("task.toml", '[verifier.env]\nKEY = "${SECRET}"', "values from the host are not supported"),
        ("task.toml", '[environment]\nworkdir = "/"', "it must be a directory below /"),
        ("task.toml", '[[steps]]\nname = "a"', "has several steps"),
        ("environment/docker-compose.yaml", "", "needs several containers"),
        ("instruction.md", " ", "instruction.md: is empty"),
        ("tests/test.sh", None, "has no tests/test.sh"),
    ],
)
def test_what_is_wrong_is_named(folder: Path, name: str, text: str | None, message: str) -> None:
    if text is None:
        (folder / name).unlink()
    else:
        (folder / name).write_text(text)
    with pytest.raises(UserError) as raised:
        load_tasks(str(folder.parent))
    assert message in str(raised.value)
