"""Every real SWE-bench row at hand: read, prompted, and ready to be graded. Their images are not needed for that."""

import itertools
from pathlib import Path

import pytest

from swe_aem.agent import NativeAgent, NativeConfig, TurnRenderer
from swe_aem.agent.renderer import RendererConfig
from swe_aem.agent.tools import SPECS
from swe_aem.grading import Grader
from swe_aem.policy.tokenizer import load_tokenizer
from swe_aem.tasks import load_tasks
from swe_aem.testing.sandbox import FakeBackend

SAMPLES = ("verified_sample", "lite_sample", "multilingual_sample", "multimodal_dev_sample")


@pytest.mark.slow
async def test_rows_are_read_prompted_and_gradable(dataset_rows: Path) -> None:
    samples = [load_tasks(str(dataset_rows / f"{sample}.jsonl")).records for sample in SAMPLES]
    assert all(samples)
    renderer = TurnRenderer(load_tokenizer(None), RendererConfig())
    prompts = NativeAgent(NativeConfig(), renderer).prompts
    async with Grader(FakeBackend()) as grader:
        for record in itertools.chain(*samples):
            task, key = record.task, record.key
            prompt = prompts.render(
                "task", statement=task.problem_statement, workdir=task.workdir, command_timeout_s="60", max_turns=50
            )
            ids = renderer.start([{"role": "user", "content": prompt}], SPECS)
            text = renderer.tokenizer.decode(ids)
            assert task.problem_statement in prompt
            assert prompt.strip() in text
            assert key.gold_patch not in text
            assert key.test_patch not in text
            assert await grader.check(record) == (), task.id
