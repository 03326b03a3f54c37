"""`WeightUpdates`: brings the policy that samples to the trained weights, with all processes.

    first_does: are they wanted? announce them ──> all: stream tensor by tensor ──> first_does: servers serve them

The first process alone waits for servers, outside of collectives; what all do together waits for nobody else.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from swe_aem.runlog import tell
from swe_aem.serve.planes import ControlPlane, GroupChanged
from swe_aem.serve.sender import Sender
from swe_aem.train.checkpoint_names import CheckpointNames
from swe_aem.train.config import TrainConfig
from swe_aem.train.expert_adapters import ExpertAdapterNames
from swe_aem.train.lost import unless_lost
from swe_aem.train.processes import Processes
from swe_aem.train.weight_stream import Renaming, WeightStream


class Weighted(Protocol):
    """Where a policy samples: a `RolloutWorker`, or a fake of tests."""

    @property
    def control(self) -> ControlPlane:
        """The control plane of its servers."""
        ...

    def load(self, weights: Mapping[str, Any], version: int) -> None:
        """Sample with the weights of a state dict, where the policy is in this process."""
        ...


class WeightUpdates:
    """Updates of the policy in a run. On every process."""

    def __init__(self, config: TrainConfig, processes: Processes, worker: Weighted | None) -> None:
        """`worker` is None on all processes but the first."""
        self._config = config
        self._processes = processes
        self._worker = worker
        self._sender: Sender | None = None
        self._names: Renaming | None = None
        self.trainer: Any = None
        """The trainer of the weights, set before the first update."""

    def open(self, stack: ExitStack, directory: Path, model: Any) -> None:
        """Connect to the servers, if there are some; the connection closes with `stack`. `directory` holds weights on
        their way; `model` is the one that will be trained. All processes call this. Raises `UserError`."""
        if self._config.servers is None:
            return
        self._names = ExpertAdapterNames(model) if self._config.lora else CheckpointNames(model)
        adapter = model.peft_config["default"] if self._config.lora else None
        self._processes.first_does("connecting to the servers", lambda: self._connect(stack, directory, adapter))

    def _connect(self, stack: ExitStack, directory: Path, adapter: Any | None) -> None:
        from swe_aem.serve.connect import sender

        assert self._config.servers is not None
        assert self._worker is not None
        # Others wait in a collective while a tensor is sent.
        limit_s = self._config.collective_timeout_s / 2
        self._sender = sender(self._config.servers, directory, self._worker.control, adapter, tensor_limit_s=limit_s)
        self._sender.open()
        stack.callback(self._sender.close)

    def bring(self, version: int, wanted: Callable[[], bool]) -> None:
        """Bring the policy to the weights of `version` steps, which the trainer has now, if they are `wanted`, which
        the first process is asked. All processes call this. Raises `PolicyError` if no server has loaded them. If the
        rollouts are lost meanwhile it returns, and so do they say at the next question."""
        while not self._brought(version, wanted):
            """A broadcast lost a server."""

    def _brought(self, version: int, wanted: Callable[[], bool]) -> bool:
        """False, on all processes, if the weights have to be sent again."""
        what = f"the weights of {version} steps"
        if self._config.servers is None:
            self._processes.first_does(what, lambda: unless_lost(lambda: self._load(version, wanted)))
            return True
        begun = self._processes.first_does(what, lambda: unless_lost(lambda: self._begin(version, wanted)))
        if not self._processes.share(begun):
            return True
        stream = self._stream()
        if self._sender is not None:
            self._sender.send(stream)
        else:
            stream.take_part()
        ended = self._processes.first_does(f"serving {what}", lambda: unless_lost(self._end))
        return self._processes.share(ended is not False)

    def _load(self, version: int, wanted: Callable[[], bool]) -> None:
        if wanted():
            assert self._worker is not None
            model: Any = self.trainer.accelerator.unwrap_model(self.trainer.model)
            self._worker.load(model.state_dict(), version)

    def _begin(self, version: int, wanted: Callable[[], bool]) -> bool:
        if not wanted():
            return False
        assert self._sender is not None
        self._sender.begin(self._stream().described(), version)
        return True

    def _end(self) -> bool:
        """False if a broadcast lost a server, so that it has to be sent again."""
        assert self._sender is not None
        try:
            self._sender.end()
        except GroupChanged as changed:
            tell(f"the weights are sent again: {changed}")
            return False
        return True

    def _stream(self) -> WeightStream:
        assert self._config.servers is not None
        assert self._names is not None
        adapter = self._config.lora is not None
        return WeightStream(
            self.trainer,
            self._names,
            dtype="float32" if adapter else self._config.servers.dtype,
            only="lora_" if adapter else "",
        )
