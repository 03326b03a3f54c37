"""`CompletionsPolicy` against a real server that misbehaves on demand."""

import asyncio
import binascii
import io
import socket
import warnings

import numpy as np
import pytest

from swe_aem.core import SamplingParams
from swe_aem.errors import PolicyError, UserError
from swe_aem.policy import ContextOverflow, RunRefused, open_policy_factory
from swe_aem.policy.completions import CompletionsConfig, CompletionsPolicy, open_completions
from swe_aem.policy.errors import Aborted
from swe_aem.testing.tagging_vllm import routed_experts

PARAMS = SamplingParams(max_tokens=10, stop_token_ids=(258,), seed=5)


@pytest.fixture
async def policy(server):
    policy = CompletionsPolicy(CompletionsConfig(url=server.url, attempts=3, backoff_s=0.01, request_timeout_s=60))
    yield policy
    await policy.close()


async def sample(policy, prompt=(1, 2, 3), params=PARAMS):
    return await policy.sample(list(prompt), params, trajectory_id="t.0")


async def test_ids_and_logprobs_are_the_servers_own(server, policy):
    policy.version = 4
    completion = await sample(policy)
    assert completion.token_ids == (7, 8, 258)
    assert completion.logprobs == (-0.5, -1.5, -0.25)
    assert (completion.finish_reason, completion.version) == ("stop", 4)
    request = server.requests[0]
    assert request["prompt"] == [1, 2, 3]
    assert (request["max_tokens"], request["seed"], request["stop_token_ids"]) == (10, 5, [258])
    assert request["return_token_ids"]


async def test_a_text_of_half_a_character_is_no_obstacle(server, policy, make_choice):
    """JSON may have lone surrogates, which the fast reader refuses."""
    server.script = [{"choices": [make_choice(text="\ud83d")]}]
    assert (await sample(policy)).token_ids == (7, 8, 258)


async def test_ids_from_token_strings(server, policy, make_choice):
    logprobs = {"token_logprobs": [-1, -2], "tokens": ["token_id:9", "token_id:258"]}
    server.script = [{"choices": [make_choice(token_ids=None, logprobs=logprobs)]}]
    assert (await sample(policy)).token_ids == (9, 258)


@pytest.fixture
async def asking(server):
    """A policy that asks for routed experts."""
    policy = CompletionsPolicy(CompletionsConfig(url=server.url, routed_experts=True))
    yield policy
    await policy.close()


ROUTES = [[[0, 5], [2, 3]], [[1, 4], [255, 0]], [[3, 1], [9, 8]]]


@pytest.mark.parametrize(("dtype", "id_bytes"), [("uint8", 1), ("uint16", 2), ("int32", 2), (">u2", 2)])
async def test_routed_experts_are_those_before_each_sampled_token(server, asking, make_choice, dtype, id_bytes):
    server.script = [{"choices": [make_choice(routed_experts=routed_experts(ROUTES, dtype))]}]
    found = (await sample(asking)).routed_experts
    assert server.requests[0]["routed_experts_prompt_start"] == 2
    assert (found.tokens, found.layers, found.experts_per_token, found.id_bytes) == (3, 2, 2, id_bytes)
    numbers = [int.from_bytes(found.ids[n : n + id_bytes], "little") for n in range(0, len(found.ids), id_bytes)]
    assert numbers == [one for token in ROUTES for layer in token for one in layer]


async def test_routed_experts_are_asked_for_only_where_they_are_wanted(server, policy, make_choice):
    server.script = [{"choices": [make_choice(routed_experts=routed_experts(ROUTES))]}]
    assert (await sample(policy)).routed_experts is None
    assert "routed_experts_prompt_start" not in server.requests[0]


async def test_a_server_that_returns_no_routed_experts_ends_the_run(server, asking):
    with pytest.raises(RunRefused, match="start vLLM with --enable-return-routed-experts"):
        await sample(asking)


async def test_routed_experts_may_be_written_by_columns(server, asking, make_choice):
    text = npy("{'descr': '|u1', 'fortran_order': True, 'shape': (3, 2, 1), }", bytes(range(6)))
    server.script = [{"choices": [make_choice(routed_experts=text)]}]
    assert (await sample(asking)).routed_experts.ids == bytes([0, 3, 1, 4, 2, 5])


def in_base64(data):
    return binascii.b2a_base64(data, newline=False).decode()


def npy(header, data=bytes(12)):
    """A `.npy` file with this header, in base64."""
    return in_base64(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + data)


def archive():
    """What numpy writes several arrays into, and reads with the same function."""
    file = io.BytesIO()
    np.savez(file, np.zeros((3, 2, 2), "uint8"))
    return file.getvalue()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!", "not an array in base64"),
        ("AAAA", "not an array in base64"),
        (routed_experts(ROUTES)[:80], "not an array in base64"),
        (routed_experts(ROUTES[:2]), r"uint8 of the shape \(2, 2, 2\), for 3 tokens"),
        (routed_experts(ROUTES[0]), r"of the shape \(2, 2\)"),
        (routed_experts(ROUTES, "float32"), "float32 of the shape"),
        (routed_experts([[[-1]]] * 3, "int32"), "go from -1 to -1"),
        (routed_experts([[[1 << 16]]] * 3, "int32"), "to 65536"),
        (f"{routed_experts(ROUTES)[:-1]}?", "not an array in base64"),
        (npy("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 1000000, 100000000), }"), "not an array in base64"),
        (npy("{'descr': '|O', 'fortran_order': False, 'shape': (3, 2, 2), }"), "not of numbers"),
        (npy("{'descr': '|u1', 'fortran_order': ("), "not an array in base64"),
        (in_base64(archive()), "not an array in base64"),
        (7, "not an array in base64"),
    ],
)
async def test_routed_experts_that_do_not_add_up(server, asking, make_choice, text, message):
    server.script = [{"choices": [make_choice(routed_experts=text)]}]
    with pytest.raises(PolicyError, match=message):
        await sample(asking)


async def test_requests_without_a_seed_get_different_ones(server, policy):
    params = PARAMS.model_copy(update={"seed": None})
    await asyncio.gather(*(sample(policy, params=params) for _ in range(5)))
    assert len({request["seed"] for request in server.requests}) == 5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_ids": [7, 8]}, "3 log-probabilities for 2 token ids"),
        ({"token_ids": [7, 8, "258"]}, "non-negative integers"),
        ({"token_ids": [7, 8, -1]}, "non-negative integers"),
        ({"token_ids": [7, 8, True]}, "non-negative integers"),
        ({"logprobs": {"token_logprobs": [-1, None, -1]}}, "finite"),
        ({"logprobs": {"token_logprobs": [-1, float("nan"), -1]}}, "finite"),
        ({"logprobs": {"token_logprobs": [-1, 10**400, -1]}}, "finite"),
        ({"logprobs": {"token_logprobs": [-1, False, -1]}}, "finite"),
        ({"logprobs": {"token_logprobs": {"0": -1}}}, "finite"),
        ({"token_ids": [7, 8, 258.0]}, "non-negative integers"),
        ({"finish_reason": "abort"}, "abort"),
        ({"token_ids": [7, 8, 9]}, "stop token"),
        ({"token_ids": [], "logprobs": {"token_logprobs": []}}, "0 tokens"),
        ({"token_ids": [1] * 11, "logprobs": {"token_logprobs": [-1] * 11}, "finish_reason": "length"}, "11 tokens"),
        ({"token_ids": None, "logprobs": {"token_logprobs": [-1], "tokens": ["token_id:x"]}}, "token id 'x'"),
        ({"token_ids": None, "logprobs": {"token_logprobs": [-1], "tokens": [f"token_id:{'1' * 5000}"]}}, "token id"),
        (
            {"token_ids": [], "logprobs": {"token_logprobs": [], "tokens": ["a"]}, "finish_reason": "abort"},
            "0 tokens",
        ),
    ],
)
async def test_an_answer_that_does_not_add_up(server, policy, make_choice, changes, message):
    server.script = [{"choices": [make_choice(**changes)]}]
    with pytest.raises(PolicyError, match=message):
        await sample(policy)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("changes", "message"), [({"token_ids": None}, "return_token_ids"), ({"logprobs": None}, "no log-probabilities")]
)
async def test_a_server_without_token_ids_ends_the_run(server, policy, make_choice, changes, message):
    server.script = [{"choices": [make_choice(**changes)]}]
    with pytest.raises(RunRefused, match=f"{message}.*--policy chat:URL") as caught:
        await sample(policy)
    assert f"{server.url}/v1/completions" in str(caught.value)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ((401, {"error": "no"}), r"refuses the key \(401: no\): name the environment variable"),
        ((403, {"error": "no"}), "forbids the request"),
        ((404, {"detail": "Not Found"}), "/v1/completions answers 404: Not Found; .*--policy chat:URL"),
        (
            (400, {"error": {"message": "Token id 9 is out of vocabulary"}}),
            "answers 400: Token id 9 is out of vocabulary",
        ),
        ((307, {}), "redirects to"),
    ],
)
async def test_what_a_server_refuses_at_the_first_request_ends_the_run(server, policy, make_choice, entry, message):
    server.script = [entry]
    with pytest.raises(RunRefused, match=message):
        await sample(policy)
    assert len(server.requests) == 1
    server.script = [{"choices": [make_choice()]}]
    await sample(policy)
    server.script = [(400, {"error": {"message": "odd"}})]
    with pytest.raises(PolicyError, match="odd"):
        await sample(policy)


async def test_a_key_comes_from_the_environment(server, monkeypatch):
    monkeypatch.setenv("SERVER_KEY", "abc-0123456789")
    async with open_completions(CompletionsConfig(url=server.url, api_key_env="SERVER_KEY")) as policy:
        await sample(policy)
    assert [head.lower().count("authorization: bearer abc-0123456789") for head in server.heads] == [1, 1]


@pytest.mark.parametrize("body", [{}, [], {"choices": []}, {"choices": [{}, {}]}, {"choices": ["x"]}])
async def test_an_answer_without_one_choice(server, policy, body):
    server.script = [body]
    with pytest.raises(PolicyError, match="exactly one choice"):
        await sample(policy)


@pytest.mark.parametrize("fault", ["drop", "truncate", "garbage", (500, {"error": {"message": "boom"}}), (502, {})])
async def test_a_fault_after_which_something_may_have_been_sampled_is_not_retried(server, policy, fault):
    server.script = [fault]
    with pytest.raises(PolicyError):
        await sample(policy)
    assert len(server.requests) == 1


async def test_a_stalling_server_is_given_up_at_the_timeout(server):
    server.script = ["stall"]
    policy = CompletionsPolicy(CompletionsConfig(url=server.url, attempts=3, request_timeout_s=0.5))
    with pytest.raises(PolicyError, match=r"no answer in 0\.5 s"):
        await sample(policy)
    await policy.close()
    assert len(server.requests) <= 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_refusal_is_retried(server, policy, status, make_choice):
    server.script = [(status, {}), (status, {}), {"choices": [make_choice()]}]
    assert (await sample(policy)).token_ids == (7, 8, 258)
    assert len(server.requests) == 3


async def test_endless_refusal_ends_with_an_error(server, policy):
    server.script = [(503, {"error": {"message": "too busy"}})]
    with pytest.raises(PolicyError, match=r"too busy \(3 attempts\)"):
        await sample(policy)
    assert len(server.requests) == 3


async def test_a_server_that_says_nothing_is_not_waited_for_as_long_as_a_response(monkeypatch):
    monkeypatch.setattr("swe_aem.policy.completions._LIST_LIMIT_S", 0.05)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(UserError, match=r"no completions server .* gave no answer in 0\.05 s"):
            async with asyncio.timeout(60), open_completions(CompletionsConfig(url=url)):
                pass


async def test_no_server_at_all():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        policy = CompletionsPolicy(CompletionsConfig(url=url, attempts=2, backoff_s=0.01))
        with pytest.raises(PolicyError, match=r"cannot connect.*\(2 attempts\)"):
            await sample(policy)
        with pytest.raises(UserError, match="no completions server"):
            await policy.open()
        await policy.close()


async def test_context_overflow_has_its_own_error(server, policy):
    message = "This model's maximum context length is 1000 tokens. However, you requested 1010 tokens."
    server.script = [(400, {"error": {"message": message}})]
    with pytest.raises(ContextOverflow):
        await sample(policy)
    server.script = [(400, {"error": {"message": "top_p must be positive"}})]
    with pytest.raises(RunRefused, match="top_p must be positive"):
        await sample(policy)


async def test_the_models_context_bounds_the_response(server):
    async with open_completions(CompletionsConfig(url=server.url + "/v1/")) as policy:
        assert policy.name == "tiny"
        await sample(policy, prompt=[1] * 995)
        assert server.requests[0]["max_tokens"] == 5
        with pytest.raises(ContextOverflow):
            await sample(policy, prompt=[1] * 1000)
        assert len(server.requests) == 1


async def test_cancelling_closes_the_connection(server, policy):
    server.script = ["stall"]
    task = asyncio.create_task(sample(policy))
    await server.requested.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(server.disconnected.wait(), 60)


async def test_one_failing_request_leaves_its_neighbours_alone(server, policy, make_choice):
    server.script = ["drop", {"choices": [make_choice()]}]
    results = await asyncio.gather(*(sample(policy) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(result, PolicyError) for result in results) == 1
    assert sum(not isinstance(result, BaseException) for result in results) == 7


async def test_open_checks_the_model(server):
    server.models = {"data": [{"id": "a"}, {"id": "b"}]}
    with pytest.raises(UserError, match="it serves a, b"):
        async with open_completions(CompletionsConfig(url=server.url)):
            pass
    policy = CompletionsPolicy(CompletionsConfig(url=server.url, model="b"))
    await policy.open()
    assert policy.name == "b"
    await policy.close()
    policy = CompletionsPolicy(CompletionsConfig(url=server.url, model="c"))
    with pytest.raises(UserError, match="it serves a, b"):
        await policy.open()
    await policy.close()


async def test_a_loaded_adapter_is_not_taken_for_the_model(server):
    server.models = {"data": [{"id": "base", "parent": None}, {"id": "adapter", "parent": "base"}]}
    async with open_completions(CompletionsConfig(url=server.url)) as policy:
        assert policy.name == "base"
    policy = CompletionsPolicy(CompletionsConfig(url=server.url, model="adapter"))
    await policy.open()
    assert policy.name == "adapter"
    await policy.close()


@pytest.mark.parametrize("models", [{}, [], {"data": [{}]}, {"data": 5}])
async def test_open_refuses_what_is_not_a_completions_server(server, models):
    server.models = models
    with pytest.raises(UserError, match="no completions server"):
        async with open_completions(CompletionsConfig(url=server.url)):
            pass


@pytest.mark.parametrize("url", ["http://[::1", "http://host:notaport"])
async def test_a_url_that_is_none(url):
    with pytest.raises(UserError, match="not a URL"):
        CompletionsPolicy(CompletionsConfig(url=url))


@pytest.mark.parametrize("scaled", [True, False])
async def test_logprobs_that_ignore_the_temperature_are_refused(server, policy, make_choice, scaled):
    def answer(request):
        if request["logprobs"] == 0:
            return {"choices": [make_choice()]}
        value = -0.5 if scaled and request["temperature"] != 1 else -0.7
        return {"choices": [make_choice(logprobs={"top_logprobs": [{"a": value, "b": -3.0}]})]}

    server.answer = answer
    warm = PARAMS.model_copy(update={"temperature": 0.7})
    if scaled:
        await sample(policy, params=warm)
        await sample(policy, params=warm)
        assert len(server.requests) == 4, "the check is made once"
    else:
        with pytest.raises(UserError, match="processed_logprobs"):
            await sample(policy, params=warm)


async def test_a_certain_token_leaves_the_temperature_unchecked(server, policy, make_choice):
    best = {"value": -1e-6}

    def answer(request):
        if request["logprobs"] == 0:
            return {"choices": [make_choice()]}
        return {"choices": [make_choice(logprobs={"top_logprobs": [{"a": best["value"], "b": -12.0}]})]}

    server.answer = answer
    warm = PARAMS.model_copy(update={"temperature": 0.7})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(7):
            await sample(policy, params=warm)
    with pytest.warns(UserWarning, match="too certain to tell"):
        await sample(policy, params=warm)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await sample(policy, params=warm)
    best["value"] = -0.7
    with pytest.raises(UserError, match="processed_logprobs"):
        await sample(policy, params=warm)


async def test_a_check_of_the_temperature_that_is_refused_waits_for_the_next_response(server, policy, make_choice):
    """The response that was sampled stands."""
    sampled = {"choices": [make_choice()]}
    unscaled = {"choices": [make_choice(logprobs={"top_logprobs": [{"a": -0.7}]})]}
    server.script = [sampled, (503, {}), (503, {}), (503, {}), sampled, unscaled]
    warm = PARAMS.model_copy(update={"temperature": 0.7})
    assert (await sample(policy, params=warm)).token_ids == (7, 8, 258)
    with pytest.raises(UserError, match="processed_logprobs"):
        await sample(policy, params=warm)


async def test_the_temperature_is_checked_where_the_response_was_least_certain(server, policy, make_choice):
    def answer(request):
        if request["logprobs"] == 0:
            return {"choices": [make_choice()]}
        return {"choices": [make_choice(logprobs={"top_logprobs": [{"a": -request["temperature"]}]})]}

    server.answer = answer
    await sample(policy, params=PARAMS.model_copy(update={"temperature": 0.7}))
    assert [request["prompt"] for request in server.requests] == [[1, 2, 3], [1, 2, 3, 7], [1, 2, 3, 7]]


async def test_a_response_that_the_server_cut_off_is_an_error_with_what_was_sampled(server, policy, make_choice):
    cut = {"token_ids": [7, 8], "logprobs": {"token_logprobs": [-0.5, -1.5]}, "finish_reason": "abort"}
    nothing = {"token_ids": [], "logprobs": {"token_logprobs": [], "tokens": []}, "finish_reason": "abort"}
    after_the_last = {"finish_reason": "abort"}
    server.script = [{"choices": [make_choice(**one)]} for one in (cut, nothing, after_the_last)]
    found = []
    for _ in server.script:
        with pytest.raises(Aborted, match="ended the response for the reason 'abort'") as caught:
            await sample(policy)
        found.append(caught.value.sampled)
    assert found[1] is None
    assert [(one.token_ids, one.logprobs, one.finish_reason) for one in (found[0], found[2])] == [
        ((7, 8), (-0.5, -1.5), "length"),
        ((7, 8, 258), (-0.5, -1.5, -0.25), "stop"),
    ]


async def test_a_check_of_the_temperature_that_is_cut_off_waits_for_the_next_response(server, policy, make_choice):
    sampled = {"choices": [make_choice()]}
    cut = {"choices": [make_choice(token_ids=[], logprobs=None, finish_reason="abort")]}
    unscaled = {"choices": [make_choice(logprobs={"top_logprobs": [{"a": -0.7}]})]}
    server.script = [sampled, cut, sampled, unscaled]
    warm = PARAMS.model_copy(update={"temperature": 0.7})
    assert (await sample(policy, params=warm)).token_ids == (7, 8, 258)
    with pytest.raises(UserError, match="processed_logprobs"):
        await sample(policy, params=warm)


async def test_without_seeds_none_is_sent(server):
    async with open_completions(CompletionsConfig(url=server.url, seeded=False)) as unseeded:
        await sample(unseeded)
        await sample(unseeded, params=PARAMS.model_copy(update={"seed": None}))
    assert all("seed" not in request for request in server.requests)


async def test_a_nucleus_is_refused(server, policy):
    with pytest.raises(UserError, match="top_p 1"):
        await sample(policy, params=PARAMS.model_copy(update={"top_p": 0.9}))
    assert server.requests == []


async def test_the_factory_shares_one_policy(server):
    async with open_policy_factory(server.url, None) as factory:
        assert factory(None, 0) is factory(None, 1)
