"""mini-swe-agent's Docker environment with the settings of its SWE-bench configuration: one `docker exec` per call."""

import os
from typing import Any

from contenders.base import INSTALL_PEERS, Box, DockerContender, Missing, Threads, Unit


class _MiniBox:
    def __init__(self, environment: Any, threads: Threads) -> None:
        self._environment: Any = environment
        self._threads = threads

    async def run(self, command: str) -> tuple[int, str]:
        """Run a command through the environment."""
        result = await self._threads.call(self._environment.execute, {"command": command})
        return result["returncode"], result["output"]

    async def end(self) -> None:
        """Drop the object, as mini-swe-agent does; its `__del__` runs `docker stop` in the background."""
        self._environment = None


class Mini(DockerContender):
    """mini-swe-agent's `DockerEnvironment`."""

    def __init__(self, unit: Unit) -> None:
        super().__init__(unit)
        os.environ["MSWEA_SILENT_STARTUP"] = "1"
        try:
            import yaml
            from minisweagent.config import builtin_config_dir  # pyright: ignore[reportMissingImports]
            from minisweagent.environments.docker import DockerEnvironment  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise Missing(f"mini-swe-agent is not installed ({error}): {INSTALL_PEERS}") from None
        config = yaml.safe_load((builtin_config_dir / "benchmarks" / "swebench.yaml").read_text())["environment"]
        config.pop("environment_class", None)
        labels = [argument for pair in unit.labels.items() for argument in ("--label", "=".join(pair))]
        self._config = {**config, "image": unit.image, "run_args": ["--rm", *labels]}
        self._environment = DockerEnvironment
        self._threads = Threads(unit.sandboxes)

    async def start(self) -> Box:
        """Start an environment."""
        return _MiniBox(await self._threads.call(self._environment, **self._config), self._threads)
