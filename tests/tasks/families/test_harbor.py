"""Harbor task folders to records; the folder is made by the published format, not a real one."""

import shutil
from pathlib import Path

import pytest

from swe_aem.errors import UserError
from swe_aem.sandbox.images.reference import Reference
from swe_aem.tasks import load_tasks
from swe_aem.tasks.families.harbor import built_image

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
        ("environment/Dockerfile", None, "has no environment/Dockerfile"),
        ("environment/Dockerfile", "FROM a\nWORKDIR $HOME/x\n", "name environment.workdir in task.toml"),
        ("environment/Dockerfile", "FROM a\nWORKDIR //\n", "it must be a directory below /"),
        ("environment/Dockerfile", "FROM a\nWORKDIR /tests/x\n", "and /tests belongs to its tests"),
        ("environment/Dockerfile", "FROM a\nWORKDIR /solution\n", "where its solution would be put"),
        ("task.toml", '[environment]\nworkdir = "app"', "it must be a directory below /"),
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
    shutil.copytree(FOLDER, folder.with_name("fine"))
    tasks = load_tasks(str(folder.parent))
    assert [record.task.id for record in tasks] == ["fine"]
    (left_out,) = tasks.left_out
    assert (left_out.id, left_out.where) == (folder.name, str(folder))
    assert message in left_out.reason
    with pytest.raises(UserError, match=f"cannot be tasks: {folder.name} "):
        load_tasks(str(folder.parent), ids=[folder.name])


def test_a_work_directory_that_others_would_hide(folder: Path) -> None:
    shutil.rmtree(folder / "solution")
    (folder / "environment" / "Dockerfile").write_text("FROM a\nWORKDIR /solution\n")
    (record,) = load_tasks(str(folder))
    assert (record.task.workdir, record.key.hidden) == ("/solution", ("/tests", "/logs/verifier"))


@pytest.mark.parametrize("name", ["A b", "_x", "x_", "a___b", "a..b", "ä", "x" * 200])
def test_every_folder_has_an_image_that_can_be_named(folder: Path, name: str) -> None:
    place = folder.rename(folder.with_name(name))
    assert str(Reference.parse(built_image(place)))


def test_the_directories_that_images_are_built_from(folder: Path) -> None:
    tasks = load_tasks(str(folder))
    assert tasks.builds == {tasks.records[0].task.image: folder / "environment"}
