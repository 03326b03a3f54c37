"""`TransformersPolicy` with a tiny random Qwen3: exact log-probabilities, batching, cancellation."""

import asyncio
import random

import pytest

from swe_aem.core import SamplingParams
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import ContextOverflow, open_policy_factory
from tests.waiting import until

pytestmark = [pytest.mark.torch, pytest.mark.contract(transformers=True)]

torch = pytest.importorskip("torch", reason="needs the transformers extra")
pytest.importorskip("transformers", reason="needs the transformers extra")

VOCABULARY = 97


@pytest.fixture(scope="module")
def model():
    from swe_aem.testing.steps import tiny_model

    return tiny_model(vocab_size=VOCABULARY, max_position_embeddings=200).eval()


@pytest.fixture
async def policy(model):
    from swe_aem.policy.transformers import TransformersPolicy

    policy = TransformersPolicy(model, name="tiny", max_batch=4, gather_s=0.02)
    yield policy
    await policy.close()


@pytest.fixture
def joins(monkeypatch):
    """How many requests joined at a time."""
    from swe_aem.policy.sampling import SamplingBatch

    sizes = []
    join = SamplingBatch.join
    monkeypatch.setattr(SamplingBatch, "join", lambda batch, rows: sizes.append(len(rows)) or join(batch, rows))
    return sizes


def params(**changes):
    return SamplingParams(**({"max_tokens": 12, "seed": 1} | changes))


def reference(model, prompt, tokens, temperature):
    """Log-probabilities from one plain forward pass without cache or padding."""
    with torch.inference_mode():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    logprobs = torch.log_softmax(logits / temperature, -1)
    return [float(row[token]) for row, token in zip(logprobs, tokens, strict=True)]


PROMPTS = [[3], [5, 6, 7, 8, 9, 10, 11], list(range(60)), [96, 1, 96, 1]]


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("top_p", [1.0, 0.5])
async def test_logprobs_agree_with_a_plain_forward_pass(model, policy, temperature, top_p):
    wanted = [params(seed=n, temperature=temperature, top_p=top_p, max_tokens=5 + 9 * n) for n in range(4)]
    completions = await asyncio.gather(
        *(policy.sample(prompt, p, trajectory_id="t") for prompt, p in zip(PROMPTS, wanted, strict=True))
    )
    for prompt, p, completion in zip(PROMPTS, wanted, completions, strict=True):
        assert len(completion.token_ids) == p.max_tokens
        assert completion.finish_reason == "length"
        expected = reference(model, prompt, completion.token_ids, temperature)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


async def test_a_model_with_sliding_windows_is_sampled_row_by_row(joins):
    """Only the model itself knows what it keeps of a row; the log-probabilities are those of a plain pass too."""
    from transformers import GptOssConfig, GptOssForCausalLM

    from swe_aem.policy.transformers import TransformersPolicy

    torch.manual_seed(0)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    size |= {"num_key_value_heads": 1, "head_dim": 16, "num_local_experts": 2, "num_experts_per_tok": 1}
    model = GptOssForCausalLM(GptOssConfig(vocab_size=VOCABULARY, sliding_window=8, **size)).eval()
    policy = TransformersPolicy(model, name="windows", gather_s=0.02)
    wanted = [params(seed=n) for n in range(4)]
    completions = await asyncio.gather(
        *(policy.sample(prompt, p, trajectory_id="t") for prompt, p in zip(PROMPTS, wanted, strict=True))
    )
    await policy.close()
    for prompt, completion in zip(PROMPTS, completions, strict=True):
        assert completion.logprobs == pytest.approx(reference(model, prompt, completion.token_ids, 1.0), abs=1e-4)
    assert not joins, "no batch of rows side by side"


async def test_requests_that_come_and_go_sample_what_each_samples_alone(model, policy, joins):
    """Twelve of many lengths, four at a time; every third prompt is an earlier one with more behind it."""
    rng = random.Random(0)
    prompts = [rng.choices(range(VOCABULARY), k=rng.randint(1, 90)) for _ in range(12)]
    for n in range(3, 12, 3):
        prompts[n] = [*prompts[n - 2], *prompts[n][:20]]
    wanted = [params(seed=n, max_tokens=rng.randint(1, 60)) for n in range(12)]
    together = await asyncio.gather(
        *(policy.sample(prompt, p, trajectory_id="t") for prompt, p in zip(prompts, wanted, strict=True))
    )
    assert joins[0] == 4
    assert len(joins) > 5
    for prompt, p, completion in zip(prompts, wanted, together, strict=True):
        alone = await policy.sample(prompt, p, trajectory_id="t")
        assert alone.token_ids == completion.token_ids
        assert completion.logprobs == pytest.approx(reference(model, prompt, completion.token_ids, 1.0), abs=1e-4)


async def test_requests_are_sampled_together(policy, joins):
    await asyncio.gather(*(policy.sample([n], params(seed=n), trajectory_id="t") for n in range(9)))
    assert joins == [4, 4, 1]


async def test_a_request_joins_those_being_sampled(policy, joins):
    answers = [
        asyncio.create_task(policy.sample([n], params(max_tokens=199 if n == 1 else 5), trajectory_id="t"))
        for n in range(6)
    ]
    await asyncio.gather(answers[0], *answers[2:])
    assert joins == [4, 2]
    assert not answers[1].done()
    assert len((await answers[1]).token_ids) == 199


async def test_what_was_read_is_not_read_again(model, policy, monkeypatch):
    """The second turn reads only what is new of its prompt; the samples of a group share their prompt."""
    read = []
    forward = model.forward
    monkeypatch.setattr(
        model, "forward", lambda *args, **named: read.append(tuple(named["input_ids"].shape)) or forward(*args, **named)
    )
    prompt = [n % 90 for n in range(100)]
    group = [policy.sample(prompt, params(seed=n, max_tokens=20), trajectory_id="t") for n in range(3)]
    first, *_ = await asyncio.gather(*group)
    assert read[0] == (1, 100)
    assert all(tokens == 1 for _, tokens in read[1:])
    read.clear()
    longer = [*prompt, *first.token_ids, 7, 8, 9]
    second = await policy.sample(longer, params(seed=5), trajectory_id="t")
    assert read[0] == (1, 123 - 112), "seven blocks of sixteen are known"
    monkeypatch.undo()
    assert second.logprobs == pytest.approx(reference(model, longer, second.token_ids, 1.0), abs=1e-4)


async def test_new_weights_wait_for_what_was_asked_before_and_end_the_prefixes(model, policy):
    import copy

    other = copy.deepcopy(model)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = copy.deepcopy(model.state_dict())
    prompt = [n % 90 for n in range(64)]
    old = asyncio.create_task(policy.sample(prompt, params(max_tokens=100), trajectory_id="t"))
    await asyncio.sleep(0)
    update = asyncio.create_task(policy.update(other.state_dict(), 7))
    await asyncio.sleep(0)
    new = asyncio.create_task(policy.sample(prompt, params(max_tokens=100), trajectory_id="t"))
    try:
        old, _, new = await asyncio.gather(old, update, new)
        assert (old.version, new.version) == (0, 7)
        assert new.logprobs == pytest.approx(reference(other, prompt, new.token_ids, 1.0), abs=1e-4)
        model.load_state_dict(before)
        assert old.logprobs == pytest.approx(reference(model, prompt, old.token_ids, 1.0), abs=1e-4)
    finally:
        model.load_state_dict(before)


async def test_weights_of_another_model_are_refused(model, policy):
    with pytest.raises(PolicyError, match="did not take the weights"):
        await policy.update({"nonsense": torch.zeros(1)}, 1)
    assert (await policy.sample([1], params(), trajectory_id="t")).version == 0


async def test_seeds_decide(policy):
    first, again, other = [await policy.sample([1, 2], params(seed=s), trajectory_id="t") for s in (1, 1, 2)]
    assert first == again
    assert first.token_ids != other.token_ids


async def test_the_stop_token_ends_the_response_and_is_part_of_it(policy):
    free = await policy.sample([1, 2], params(max_tokens=50), trajectory_id="t")
    stop = free.token_ids[20]
    stopped = await policy.sample([1, 2], params(max_tokens=50, stop_token_ids=(stop,)), trajectory_id="t")
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == free.token_ids[: free.token_ids.index(stop) + 1]


async def test_temperature_zero_takes_the_best_token(model, policy):
    completion = await policy.sample([1, 2], params(temperature=0.0), trajectory_id="t")
    with torch.inference_mode():
        logits = model(torch.tensor([[1, 2, *completion.token_ids]])).logits[0, 1:-1]
    assert completion.token_ids == tuple(logits.argmax(-1).tolist())


def test_sampling_follows_the_distribution():
    """Frequencies of 4,000 draws, against the exact probabilities, with and without top-p."""
    from swe_aem.policy.sampling import BatchRow, choose

    logits = torch.log(torch.tensor([0.5, 0.2, 0.2, 0.1]))
    for top_p, expected in ((1.0, [0.5, 0.2, 0.2, 0.1]), (0.6, [5 / 7, 2 / 7, 0, 0]), (0.4, [1, 0, 0, 0])):
        row = BatchRow([0], SamplingParams(max_tokens=4000, top_p=top_p, seed=3))
        chosen = [choose([row], logits.unsqueeze(0)) for _ in range(4000)]
        tokens, logprobs = [tokens[0] for tokens, _ in chosen], [logprobs[0] for _, logprobs in chosen]
        assert (torch.bincount(torch.tensor(tokens), minlength=4) / 4000).tolist() == pytest.approx(expected, abs=0.03)
        assert logprobs == pytest.approx([float(logits[token]) for token in tokens], abs=1e-6)


async def test_a_cancelled_request_leaves_its_neighbours_alone(policy):
    alone = await policy.sample([4, 5], params(max_tokens=100), trajectory_id="t")
    doomed = asyncio.create_task(policy.sample([6] * 30, params(max_tokens=150), trajectory_id="t"))
    kept = asyncio.create_task(policy.sample([4, 5], params(max_tokens=100), trajectory_id="t"))
    await asyncio.sleep(0.05)
    doomed.cancel()
    assert (await kept).token_ids == alone.token_ids
    assert doomed.cancelled()


async def test_a_request_that_is_cancelled_while_it_waits_harms_nobody(policy):
    kept = [asyncio.create_task(policy.sample([n], params(max_tokens=60, seed=n), trajectory_id="t")) for n in range(4)]
    waiting = asyncio.create_task(policy.sample([9], params(), trajectory_id="t"))
    await asyncio.sleep(0.05)
    waiting.cancel()
    assert [len(one.token_ids) for one in await asyncio.gather(*kept)] == [60] * 4
    assert len((await policy.sample([9], params(), trajectory_id="t")).token_ids) == 12


async def test_cancelling_frees_the_sampler(model, policy, monkeypatch):
    forward, passes = model.forward, []

    def counted(*args, **named):
        passes.append(None)
        return forward(*args, **named)

    monkeypatch.setattr(model, "forward", counted)
    slow = asyncio.create_task(policy.sample([1], params(max_tokens=190), trajectory_id="t"))
    await until(lambda: passes)
    slow.cancel()
    before = len(passes)
    await policy.sample([1], params(max_tokens=1), trajectory_id="t")
    assert len(passes) - before < 100


async def test_the_context_bounds_the_response(policy):
    completion = await policy.sample([1] * 195, params(max_tokens=50), trajectory_id="t")
    assert (len(completion.token_ids), completion.finish_reason) == (5, "length")
    with pytest.raises(ContextOverflow):
        await policy.sample([1] * 200, params(), trajectory_id="t")


async def test_ids_outside_the_vocabulary_are_a_user_error(policy):
    with pytest.raises(UserError, match="use the model's own tokenizer"):
        await policy.sample([VOCABULARY], params(), trajectory_id="t")


async def test_a_failing_model_fails_its_batch_and_not_the_policy(model, policy, monkeypatch):
    def broken(*args, **named):
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(model, "forward", broken)
        with pytest.raises(PolicyError, match="out of memory"):
            await policy.sample([1], params(), trajectory_id="t")
    assert (await policy.sample([1], params(), trajectory_id="t")).token_ids


async def test_closing_ends_what_is_being_sampled(policy):
    tasks = [asyncio.create_task(policy.sample([1], params(max_tokens=199), trajectory_id="t")) for _ in range(6)]
    await asyncio.sleep(0.05)
    await asyncio.wait_for(policy.close(), 60)
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, PolicyError)
    with pytest.raises(PolicyError, match="closed"):
        await policy.sample([1], params(), trajectory_id="t")
    await policy.close()


async def test_a_model_directory(model, tmp_path):
    model.save_pretrained(tmp_path / "tiny-model")
    async with open_policy_factory(str(tmp_path / "tiny-model"), None) as factory:
        policy = factory(None, 0)
        assert policy.name == "tiny-model"
        completion = await policy.sample([1, 2], params(), trajectory_id="t")
        expected = reference(model, [1, 2], completion.token_ids, 1.0)
        assert completion.logprobs == pytest.approx(expected, abs=1e-4)


async def test_a_directory_without_a_model(tmp_path):
    with pytest.raises(UserError, match="no model that transformers can load"):
        async with open_policy_factory(str(tmp_path), None):
            pass
