"""Pulls through a real engine from a real registry, with faults in between."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from swe_aem.sandbox.images.engine import Engine, connect
from swe_aem.sandbox.images.failures import PullFailure
from swe_aem.sandbox.images.ledger import Ledger
from swe_aem.sandbox.images.pull import PullConfig, Pulled, Puller, Want
from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.registries import Registries, load_credentials

pytestmark = pytest.mark.docker

MakeImage = Callable[..., Any]
BLOB, MANIFEST = "/blobs/", "/manifests/"


@pytest.fixture
async def engine(require_docker: None) -> AsyncIterator[Engine]:
    """The real engine."""
    async with connect() as connected:
        yield connected


def want(name: str, **pins: str) -> Want:
    """A wanted image by name."""
    return Want(reference=Reference.parse(name), **pins)


async def pull(engine: Engine, config: PullConfig, *wants: Want, mirrors: dict[str, Any] | None = None) -> list[Pulled]:
    """Pull as the command does."""
    registries = Registries(mirrors=mirrors or {})
    puller = Puller(engine, Ledger.of_engine(), config=config, registries=registries, credentials=load_credentials())
    return await puller.pull_all(wants)


async def test_pulls_once_and_only_what_is_missing(
    engine: Engine, registry: str, make_image: MakeImage, hasty: PullConfig
) -> None:
    made = [make_image() for _ in range(3)]
    wants = [want(image.at(registry)) for image in made]
    first = await pull(engine, hasty, *wants, wants[0])
    assert [(r.status, r.image_id, r.digest) for r in first] == [("pulled", m.id, m.digest) for m in made]
    again = await pull(engine, hasty, *wants)
    assert [(r.status, r.digest) for r in again] == [("present", m.digest) for m in made]
    entries = Ledger.of_engine().entries()
    assert {str(w.reference) for w in wants} == set(entries)
    assert all(entry.origin == "pull" for entry, _ in entries.values())
    assert not Ledger.of_engine().held()


async def test_a_rate_limit_pauses_all_pulls_and_counts_as_no_attempt_lost(
    engine: Engine, proxy: Any, make_image: MakeImage, hasty: PullConfig
) -> None:
    made = [make_image() for _ in range(2)]
    proxy.add("limit", MANIFEST, times=7, Retry_After="0")
    results = await pull(engine, hasty, *[want(image.at(proxy.address)) for image in made])
    assert [(result.status, result.why) for result in results] == [("pulled", "")] * 2
    assert sum(result.attempts for result in results) > 2


async def test_a_limit_past_all_patience_is_told(
    engine: Engine, proxy: Any, make_image: MakeImage, hasty: PullConfig
) -> None:
    proxy.add("limit", MANIFEST, Retry_After="7200")
    (result,) = await pull(engine, hasty, want(make_image().at(proxy.address)))
    assert (result.status, result.failure, result.attempts) == ("failed", PullFailure.RATE_LIMITED, 1)
    assert "asks for 7" in result.why
    assert "--patience" in result.why


async def test_a_corrupt_layer_is_pulled_again(
    engine: Engine, proxy: Any, make_image: MakeImage, hasty: PullConfig
) -> None:
    made = make_image()
    proxy.add("corrupt", BLOB, times=2)
    (result,) = await pull(engine, hasty, want(made.at(proxy.address)))
    assert (result.status, result.image_id) == ("pulled", made.id)


async def test_a_layer_that_stays_corrupt_is_a_clean_failure(
    engine: Engine, proxy: Any, make_image: MakeImage, hasty: PullConfig
) -> None:
    name = make_image().at(proxy.address)
    proxy.add("corrupt", BLOB)
    (result,) = await pull(engine, hasty, want(name))
    assert (result.status, result.failure, result.attempts) == ("failed", PullFailure.CORRUPT, hasty.attempts)
    assert "verification failed" in result.why
    assert await engine.inspect(name) is None
    assert not Ledger.of_engine().entries()


@pytest.mark.slow
async def test_a_pull_that_stands_still_is_given_up_and_tried_again(
    engine: Engine, proxy: Any, make_image: MakeImage, hasty: PullConfig
) -> None:
    made = make_image()
    proxy.add("stall", BLOB, times=1)
    config = hasty.model_copy(update={"stall_s": 2.0, "attempts": 20})
    (result,) = await pull(engine, config, want(made.at(proxy.address)))
    assert (result.status, result.image_id) == ("pulled", made.id)
    assert result.attempts > 1


async def test_a_registry_that_never_answers_does_not_hang_us(
    engine: Engine, proxy: Any, make_image: MakeImage, hasty: PullConfig
) -> None:
    proxy.add("stall", MANIFEST)
    name = make_image().at(proxy.address)
    stalled, late = hasty.model_copy(update={"stall_s": 0.3, "attempts": 2}), hasty.model_copy(update={"image_s": 0.3})
    assert [(r.failure, r.attempts) for r in await pull(engine, stalled, want(name))] == [(PullFailure.STALLED, 2)]
    assert [(r.failure, r.attempts) for r in await pull(engine, late, want(name))] == [(PullFailure.TIMED_OUT, 1)]


async def test_a_cancelled_pull_leaves_no_hold_and_can_be_resumed(
    engine: Engine, proxy: Any, make_image: MakeImage, hasty: PullConfig
) -> None:
    made = make_image()
    proxy.add("stall", BLOB, times=1)
    pulling = asyncio.create_task(pull(engine, hasty, want(made.at(proxy.address))))
    await asyncio.to_thread(proxy.wait_for, BLOB)
    pulling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pulling
    assert not Ledger.of_engine().held()
    (result,) = await pull(engine, hasty, want(made.at(proxy.address)))
    assert result.status == "pulled"


async def test_mirrors_are_asked_in_order_and_the_image_gets_its_own_name(
    engine: Engine, registry: str, open_proxy: Callable[[], Any], make_image: MakeImage, hasty: PullConfig
) -> None:
    empty, made = open_proxy(), make_image()
    empty.add("limit", MANIFEST, times=10**9, Retry_After="3600")
    name = f"registry.invalid/{made.repository}:{made.tag}"
    mirrors = {"registry.invalid": (f"{registry}/nothing/here", empty.address, registry)}
    (result,) = await pull(engine, hasty, want(name), mirrors=mirrors)
    assert (result.status, result.source, result.attempts) == ("pulled", registry, 3)
    image = await engine.inspect(name)
    assert image is not None
    assert image.tags == (name,)  # the mirror's own name is gone
    (again,) = await pull(engine, hasty, want(name, digest=made.digest), mirrors=mirrors)
    assert (again.status, again.digest) == ("present", made.digest)  # known from the ledger, not from the engine


async def test_every_source_is_named_when_all_fail_and_a_dead_one_is_given_up_once(
    engine: Engine, registry: str, hasty: PullConfig
) -> None:
    dead = "127.0.0.1:1"
    wants = [want(f"{dead}/a/b{number}:1") for number in range(3)]
    config = hasty.model_copy(update={"jobs": 1})
    results = await pull(engine, config, *wants, mirrors={dead: (registry,)})
    assert {result.failure for result in results} == {PullFailure.UNREACHABLE}
    assert all(registry in result.why and dead in result.why for result in results)
    assert [result.attempts for result in results] == [1 + config.backoff.strikes, 1, 1]


async def test_credentials_are_dockers_own(
    engine: Engine, proxy: Any, make_image: MakeImage, hasty: PullConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_image()
    proxy.password = "s3cret"
    (refused,) = await pull(engine, hasty, want(made.at(proxy.address)))
    assert (refused.failure, refused.attempts) == (PullFailure.DENIED, 1)
    auth = base64.b64encode(b"reader:s3cret").decode()
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", json.dumps({"auths": {proxy.address: {"auth": auth}}}))
    (result,) = await pull(engine, hasty, want(made.at(proxy.address)))
    assert result.status == "pulled"


async def test_a_pinned_digest_is_what_comes_even_if_the_tag_has_moved(
    engine: Engine, registry: str, make_image: MakeImage, hasty: PullConfig
) -> None:
    old = make_image()
    new = make_image(repository=old.repository)
    name = old.at(registry)
    (result,) = await pull(engine, hasty, want(name, digest=old.digest))
    assert (result.status, result.image_id, result.digest) == ("pulled", old.id, old.digest)
    assert new.id != old.id
    (other,) = await pull(engine, hasty, want(name, digest=new.digest))
    assert (other.status, other.failure) == ("failed", PullFailure.MOVED)
    assert "docker rmi" in other.why


async def test_a_tag_that_moved_since_preflight_is_an_error_and_leaves_nothing(
    engine: Engine, registry: str, make_image: MakeImage, hasty: PullConfig
) -> None:
    old = make_image()
    make_image(repository=old.repository)
    (result,) = await pull(engine, hasty, want(old.at(registry), image_id=old.id))
    assert (result.status, result.failure) == ("failed", PullFailure.MOVED)
    assert await engine.inspect(old.at(registry)) is None


async def test_a_digest_that_the_registry_does_not_have_is_missing(
    engine: Engine, registry: str, make_image: MakeImage, hasty: PullConfig
) -> None:
    (result,) = await pull(engine, hasty, want(make_image().at(registry), digest="sha256:" + "0" * 64))
    assert (result.failure, result.attempts) == (PullFailure.MISSING, 1)
