"""`Served`: scripted steps beside servers, whose weights at each evaluation are kept."""

from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file

from swe_aem.serve.planes import Parcel
from swe_aem.testing.steps import ScriptedSteps
from swe_aem.train.config import TrainConfig


class Served(ScriptedSteps):
    """Scripted steps, and servers that have what they were sent last. A step wants no weights, an evaluation does."""

    def __init__(self, config: TrainConfig, directory: Path, *arguments: Any) -> None:
        super().__init__(config, directory, *arguments)
        self.control = self
        self._evaluated = directory / "evaluated"
        self._files: dict[str, Any] = {}

    def begin(self, parcel: Parcel) -> None:
        """The servers read the files."""
        pieces = Path(parcel.update_info["path"]).glob("*.safetensors")
        self._files = {name: one for piece in pieces for name, one in load_file(piece).items()}

    def end(self, failure: str | None) -> None:
        """They serve them."""
        assert failure is None

    def evaluation_wants_weights(self, rollouts: Any, version: int) -> bool:
        """Every evaluation does."""
        return True

    def evaluated(self, step: int) -> None:
        """Keep what the servers have at the evaluation after `step` steps."""
        self._evaluated.mkdir(parents=True, exist_ok=True)
        save_file(self._files, self._evaluated / f"served-{step}.safetensors")
