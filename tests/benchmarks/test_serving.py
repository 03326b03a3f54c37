"""The benchmark of the policy in front of a server compares like with like."""

import serving
from swe_aem.testing.vllm import SimulatedVllm


async def test_both_sides_ask_for_the_same() -> None:
    sent = []
    for way in (serving.straight, serving.through):
        async with SimulatedVllm() as server:
            tokens, seconds = await way(server.url, serving.prompts(3, 7), 1)
            sent.append(server.requests)
        assert tokens == 3 * 9
        assert seconds > 0
    assert len(sent[0]) == 3
    assert sent[0] == sent[1]
