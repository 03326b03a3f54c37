"""`swe-aem report`: where the page goes, what is said, exit codes."""

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swe_aem.cli import app


@pytest.fixture
def run_directory(tmp_path: Path) -> Path:
    lines = '{"step": 1, "staleness": 0}\n{"step": 1, "staleness": 1}\n{"step": 2, "stal'
    (tmp_path / "metrics.jsonl").write_text(lines)
    return tmp_path


def test_into_the_run_itself(run_directory: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(run_directory)])
    assert done.exit_code == 0, done.output
    assert "Whether it learned is not known" in done.stdout
    assert done.stdout.splitlines()[-1] == str(run_directory / "report.html")
    assert "1 lines of metrics.jsonl were repeated by a resumed run" in done.stderr
    assert "Staleness" in (run_directory / "report.html").read_text()


def test_into_another_place(run_directory: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["report", str(run_directory), "--out", str(tmp_path / "there")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "there" / "report.html").is_file()
    assert not (run_directory / "report.html").exists()


def test_wrong_input_is_exit_code_2(tmp_path: Path) -> None:
    code = "from swe_aem.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "report", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"swe-aem: {tmp_path} is not a training run")
