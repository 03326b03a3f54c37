"""Rollouts of a training run on a Ray cluster, whose server gets new weights before each step:
`updated_fleet.py ADDRESS OUT`. The server is a fake in this process; a line says that a step has its groups."""

import asyncio
import sys
import threading
from pathlib import Path

from swe_aem.serve.planes import Parcel
from swe_aem.testing.tagging_vllm import FakeRequest, FakeTaggingVllm
from swe_aem.train.config import read_config
from swe_aem.train.rollout_worker import RolloutWorker

UPDATES = 4
SETTINGS = (
    f"steps={UPDATES}", "oversampled_groups=null", "groups_per_step=2", "num_minibatches=1", "micro_batch_size=4",
    "max_staleness=2", "importance_sampling={mode: truncate, high: 2}", "rollout.group_size=4", "rollout.limit=8",
    "rollout.scheduling.concurrency=2", "rollout.cluster.lost_after_s=10", "heldout=null",
)  # fmt: skip


class SmallVocabulary(FakeTaggingVllm):
    """A server whose token 307 was sampled by version 3: the quickstart's tokenizer knows few tokens."""

    def _sample(self, request: FakeRequest) -> None:
        request.tokens.append(100 * self._version + request.random.randrange(90))
        self.sampled += 1
        if len(request.tokens) >= request.max_tokens:
            self._end(request, "length")


def main(address: str, out: Path) -> None:
    """Roll out all steps."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    server = SmallVocabulary(tick_s=0.02)
    asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
    settings = [*SETTINGS, f"servers.urls=[{server.url}]"]
    config = read_config(Path("configs/quickstart.yaml"), settings, {"rollout.cluster": address})
    with RolloutWorker(config, out, lambda: None) as worker:
        for number in range(1, UPDATES + 1):
            if worker.wants_weights(number):
                path = f"x.{number - 1}"
                worker.control.begin(Parcel(path, number - 1, {"path": path}, atomic=True, again=True))
                worker.control.end(None)
            worker.step(number)
            print(f"step {number}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
