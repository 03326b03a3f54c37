"""The page of tokens: texts, colours, and that no number passes for one that training used."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swe_aem.core import Branch, Outcome, Response, Trajectory
from swe_aem.errors import UserError
from swe_aem.policy import load_tokenizer
from swe_aem.testing.builders import make_trajectory
from swe_aem.view.credit import credit_of
from swe_aem.view.found import Kind, Run
from swe_aem.view.index import StoreIndex
from swe_aem.view.pages import PAGES
from swe_aem.view.server import ServerLinks
from swe_aem.view.site import Address, Asked, Site
from swe_aem.view.story.tokens import token_texts
from tests.view.pages import Parsed, page, store_with

ROOT = Path(__file__).parents[2]


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), st.integers(0, 60))
def test_texts_of_tokens_make_the_text(text: str, at: int) -> None:
    tokenizer = load_tokenizer(None)
    ids = tokenizer.encode(text)
    texts = token_texts(tokenizer, ids)
    assert len(texts) == len(ids)
    assert "".join(texts) == text
    assert len(token_texts(tokenizer, ids[at:], ids[max(0, at - 4) : at])) == len(ids[at:])


def test_ids_are_shown_where_the_tokenizer_is_not_at_hand(tmp_path: Path) -> None:
    directory = store_with(tmp_path / "run", make_trajectory("t", 0))
    html = page(directory, "tokens", {"by": "logprob"}, task="t", sample="0")
    text = Parsed(html).text
    assert "Token ids are shown, for their texts need the run's tokenizer" in text
    assert "turn 1, version 3 3 4" in " ".join(text.split())
    assert 'title="id 4, log p -1.500"' in html


def test_long_streams_are_paged(tmp_path: Path) -> None:
    spans = [(n, n + 90) for n in range(10, 30_000, 100)]
    responses = tuple(
        Response(start=a, end=b, logprobs=(-0.5,) * 90, version=1, finish_reason="stop", sample_s=1.0) for a, b in spans
    )
    one = make_trajectory("t", 0, token_ids=tuple(range(30_000)), responses=responses)
    directory = store_with(tmp_path / "run", one)
    html = page(directory, "tokens", {"response": "200"}, task="t", sample="0")
    assert "tokens 16,001 to 20,000 of 30,000" in Parsed(html).text
    assert 'id="r200"' in html
    assert len(html) < 1_000_000


def trained_run(directory: Path, members: list[Trajectory]) -> Run:
    store_with(directory / "rollouts", *members)
    shutil.copy(ROOT / "configs" / "quickstart.yaml", directory / "config.yaml")
    return Run(name="r+rollouts", directory=directory / "rollouts", kind=Kind.ROLLOUTS, part_of="r")


def test_base_advantages_are_those_of_training_and_what_is_estimated_says_so(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the transformers extra")
    members = [make_trajectory("t", n, reward=float(n == 0)) for n in range(7)]
    limit: dict[str, Any] = {"outcome": Outcome.TURN_LIMIT, "reward": 0.0}
    members.append(make_trajectory("t", 7, **limit))
    run = trained_run(tmp_path, members)
    found = credit_of(run, members, members[0].key)
    (one,) = found.responses
    assert one is not None
    assert one.base == pytest.approx(1.0)  # leave-one-out
    assert one.advantage == pytest.approx(one.alpha * one.base)
    assert not found.exact
    assert "estimate" in " ".join(found.notes)
    (other,) = credit_of(run, members, members[1].key).responses
    assert other is not None
    assert other.base == pytest.approx(-1 / 7)
    with pytest.raises(UserError, match="7 of 8 trajectories so far"):
        credit_of(run, members[:7], members[0].key)
    with pytest.raises(UserError, match="compact filtering"):
        credit_of(run, members, members[7].key)
    unpaid = [*members[:6], make_trajectory("t", 6, reward=None), members[7]]
    with pytest.raises(UserError, match=r"Its group was not trained on: t.6 ended as resolved .* without a reward"):
        credit_of(run, unpaid, members[0].key)


def test_a_branch_is_shown_as_trained_on_where_it_was(tmp_path: Path) -> None:
    one = make_trajectory("t", 0)
    branches = tuple(
        Branch(token_ids=one.token_ids, responses=one.responses, by_agent=by_agent) for by_agent in (False, True, True)
    )
    trained_run(tmp_path / "r", [one.model_copy(update={"branches": branches})])
    StoreIndex(tmp_path / "r" / "rollouts").build()
    site = Site([tmp_path / "r"], PAGES)

    def trained(stream: str) -> bool:
        values = {"run": "r+rollouts", "task": "t", "sample": "0"}
        html = site.html(Asked(Address("tokens", values, {"stream": stream}), ServerLinks(site.pages)))
        return "log p -1.500, sampled, not trained on" not in html

    assert [trained(stream) for stream in ("", "1", "2", "3")] == [True, False, False, False]
    config = tmp_path / "r" / "config.yaml"
    packed = config.read_text().replace("micro_batch_size: 48", "token_budget: 4096")
    config.write_text(packed + "\nbranches_per_trajectory: 1\n")
    assert [trained(stream) for stream in ("", "1", "2", "3")] == [True, False, True, False]


def test_the_page_of_a_trajectory_says_what_each_turn_was_trained_with(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the transformers extra")
    trained_run(tmp_path / "r", [make_trajectory("t", n, reward=float(n == 0)) for n in range(8)])
    values = {"run": "r+rollouts", "task": "t", "sample": "0"}
    StoreIndex(tmp_path / "r" / "rollouts").build()
    site = Site([tmp_path / "r"], PAGES)

    def shown(query: dict[str, str]) -> str:
        return site.html(Asked(Address("trajectory", values, query), ServerLinks(site.pages)))

    plain = shown({})
    assert "/r+rollouts/trajectory/t/0?advantages=1#turns".replace("+", "%2B") in Parsed(plain).links
    assert "base advantage" not in plain
    text = " ".join(Parsed(shown({"advantages": "1"})).text.split())
    assert "α about 1.000, base advantage +1.0000, advantage about +1.0000" in text
    assert "α and advantage are an estimate" in text


def test_nothing_is_computed_for_what_was_not_trained_on_or_by_code_of_a_run(tmp_path: Path) -> None:
    members = [make_trajectory("t", n) for n in range(2)]
    alone = Run(name="r", directory=tmp_path, kind=Kind.ROLLOUTS)
    with pytest.raises(UserError, match="nothing was trained on these"):
        credit_of(alone, members, members[0].key)
    run = trained_run(tmp_path / "trained", members)
    config = tmp_path / "trained" / "config.yaml"
    config.write_text(config.read_text() + "\nadvantage: {estimator: 'own.py:evil'}\n")
    with pytest.raises(UserError, match="runs no code of a run"):
        credit_of(run, members, members[0].key)
