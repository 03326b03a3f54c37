"""Fixtures that every test room shares: real services, or a clear failure where they are required."""

import os
import shutil
from pathlib import Path

import pytest

REQUIRED = os.environ.get("SWE_AEM_REQUIRE_SERVICES") == "1"
"""Set by CI: an absent service fails its tests instead of skipping them."""

collect_ignore = ["data"]
"""Task folders have tests of their own, which are not ours."""

MICRO_IMAGE = "swe-aem/micro:1"


def absent(what: str) -> None:
    """Skip a test for want of a service, or fail it where services are required."""
    if REQUIRED:
        pytest.fail(f"{what}, and SWE_AEM_REQUIRE_SERVICES=1")
    pytest.skip(what)


@pytest.fixture(scope="session")
def require_bubblewrap() -> None:
    """bubblewrap is installed."""
    if shutil.which("bwrap") is None:
        absent("bubblewrap is not installed")


@pytest.fixture(scope="session")
def require_docker() -> None:
    """A docker engine answers and has the bundled tasks' image."""
    import docker
    from docker.errors import DockerException, ImageNotFound

    try:
        docker.from_env().images.get(MICRO_IMAGE)
    except ImageNotFound:
        absent(f"the docker engine has no image {MICRO_IMAGE}: run sandboxes/micro/build.sh")
    except DockerException as error:
        absent(f"no docker engine: {error}")


@pytest.fixture(scope="session")
def registry_program() -> str:
    """Debian's docker-registry (apt-get install docker-registry), or distribution's own `registry`."""
    program = shutil.which("docker-registry") or shutil.which("registry")
    if program is None:
        absent("no registry program: apt-get install docker-registry")
    return str(program)


@pytest.fixture(scope="session")
def dataset_rows() -> Path:
    """Folder with real SWE-bench rows: $SWE_AEM_DATA, or ../shared/data/swebench beside the checkout."""
    root = Path(os.environ.get("SWE_AEM_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not (root / "swebench").is_dir():
        pytest.skip(f"no real dataset rows at {root / 'swebench'}; set SWE_AEM_DATA")
    return root / "swebench"


@pytest.fixture(scope="session")
def compose_program() -> str:
    """docker-compose is installed."""
    program = shutil.which("docker-compose")
    if program is None:
        absent("docker-compose is not installed")
    return str(program)


def require_harness(name: str, *pins: str) -> None:
    """The harness's environment is installed; `swe-aem harness install` does it."""
    from swe_aem.errors import UserError
    from swe_aem.harness.environment import interpreter
    from swe_aem.harness.recipe import read_recipe

    try:
        interpreter(read_recipe(name), pins)
    except UserError as error:
        absent(str(error))
