"""The public API and the command line from the built wheel, in a directory that has nothing of the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import absent

ROOT = Path(__file__).parents[2]
SCRIPT = """
import swe_aem as sa
assert sa.__file__.startswith({site!r}), sa.__file__
run = sa.rollout(sa.load_tasks("tasks/micro", limit=1), agent="gold", sandbox=sa.Bubblewrap(), out="out", twins=False)
(trajectory,) = run.trajectories()
assert trajectory.outcome is sa.Outcome.RESOLVED
assert sa.evaluate(run).resolved == 1
try:
    sa.train("configs/quickstart.yaml", nothing=1)
except sa.errors.UserError as error:
    assert "nothing is unknown" in str(error), error
"""


@pytest.mark.bubblewrap
def test_the_wheel_in_an_empty_directory(require_bubblewrap: None, tmp_path: Path) -> None:
    uv = shutil.which("uv")
    if uv is None:
        absent("uv is not installed")
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    build = [str(uv), "build", "--wheel", "-q", "--python", sys.executable, "--out-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = [str(uv), "pip", "install", "-q", "--no-deps", "--offline", "--target", str(site), str(wheel)]
    subprocess.run([*install, "--python", sys.executable], check=True)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(site=str(site))],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in empty.iterdir()) == ["out"]
