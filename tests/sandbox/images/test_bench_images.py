"""`swe-aem bench` on real SWE-bench rows: images are pulled, the disk is too small for all, the process is killed."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker
import pytest
from docker.errors import ImageNotFound
from typer.testing import CliRunner

from swe_aem.cli.images import app
from swe_aem.store import Store
from tests.conftest import absent

IDS = ("pallets__flask-5014", "pytest-dev__pytest-10356", "pylint-dev__pylint-8898")
COMMAND = [sys.executable, "-c", "from swe_aem.cli import main; main()", "bench"]


@pytest.fixture
def published(registry: str, dataset_rows: Path, tmp_path: Path) -> Iterator[Path]:
    """Rows of SWE-bench Verified whose images, made by hand, are in the registry and not on the engine."""
    import pyarrow.parquet

    client = docker.from_env()
    rows = [
        row for row in pyarrow.parquet.read_table(dataset_rows / "verified.parquet").to_pylist()
        if row["instance_id"] in IDS
    ]  # fmt: skip
    names: list[str] = []
    for row in rows:
        try:
            client.images.get(row["image"])
        except ImageNotFound:
            absent(f"the docker engine has no image {row['image']}")
        name = f"{registry}/{row['image'].partition(':')[0]}"
        context = tmp_path / "context"
        context.mkdir(exist_ok=True)
        (context / "Dockerfile").write_text(f"FROM {row['image']}\nLABEL published={tmp_path.name}\n")
        client.images.build(path=str(context), tag=f"{name}:latest", rm=True)
        for line in client.api.push(name, "latest", stream=True, decode=True):
            assert "error" not in line, line
        client.images.remove(f"{name}:latest")
        names.append(f"{name}:latest")
        row["image"] = f"{name}:latest"
    path = tmp_path / "verified.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    yield path
    CliRunner().invoke(app, ["gc", "--high", "0%", "--low", "0%"])  # with the layers that were kept on them
    assert not [name for name in names if client.api.images(name)]
    client.close()


def there(tasks: Path) -> set[str]:
    """Tasks whose image the engine has."""
    tags = {tag for image in docker.from_env().api.images() for tag in image["RepoTags"] or ()}
    rows: list[dict[str, Any]] = [json.loads(line) for line in tasks.read_text().splitlines()]
    return {row["instance_id"] for row in rows if row["image"] in tags}


@pytest.mark.docker
@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_three_real_images_on_a_disk_for_two_with_kills(published: Path, own_cache: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [str(published), "--policy", "gold", "--disk", "700M", "--concurrency", "1", "--out", str(out)]
    dice = random.Random(3)
    for _ in range(3):
        process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(2 + dice.random() * 10)
        process.kill()
        process.wait()
        assert len(there(published)) <= 2
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 samples of 3 tasks resolved" in done.stdout
    assert len(list(Store(out).trajectories())) == 3
    assert len(there(published)) <= 2
    assert set(json.loads((out / "preds.json").read_text())) == set(IDS)
