"""Working through the images of many tasks within a limit: what is there when it is used, and what never goes."""

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import docker
import httpx
import pytest

from swe_aem.core import SandboxSpec
from swe_aem.errors import InfrastructureError
from swe_aem.sandbox.docker import DockerBackend
from swe_aem.sandbox.images.engine import Engine, EngineImage, connect
from swe_aem.sandbox.images.failures import PullFailure
from swe_aem.sandbox.images.ledger import Ledger, LedgerEntry
from swe_aem.sandbox.images.pull import PullConfig, Pulled, Puller, Want
from swe_aem.sandbox.images.reference import Reference
from swe_aem.sandbox.images.window import BroughtImages, ImageWindow
from tests.waiting import until


@dataclass
class FakeEngine:
    """An engine with images of given layers, and a registry that has all of them."""

    place: ClassVar[str] = "the engine"
    registry: dict[str, dict[str, int]]
    """Image to its layers' sizes by key."""
    ledger: Ledger = field(default_factory=Ledger.of_engine)
    there: set[str] = field(default_factory=set)
    pulls: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    containers: set[str] = field(default_factory=set)
    failures: dict[str, PullFailure] = field(default_factory=dict)
    down: bool = False

    def held(self, names: set[str]) -> int:
        return sum({key: count for name in names for key, count in self.registry[name].items()}.values())

    async def images(self) -> list[EngineImage]:
        return [self._image(name) for name in sorted(self.there)]

    def _image(self, name: str) -> EngineImage:
        return EngineImage(
            id=f"id of {name}", tags=(f"{name}:latest",), digests=(), size_bytes=sum(self.registry[name].values())
        )

    async def users(self) -> dict[str, str]:
        return {f"id of {name}": "container" for name in self.containers}

    async def inspect(self, name: str) -> EngineImage | None:
        name = name.removesuffix(":latest")
        return self._image(name) if name in self.there else None

    async def layer_sizes(self, image_id: str) -> dict[str, int]:
        return self.registry[image_id.removeprefix("id of ").removesuffix(":latest")]

    async def remove(self, name: str) -> None:
        name = name.removesuffix(":latest")
        self.there.discard(name)
        self.removed.append(name)

    # -- as a Puller --------------------------------------------------------------------------------------------------

    async def pull(self, want: Want) -> Pulled:
        name = want.reference.familiar.removesuffix(":latest")
        await asyncio.sleep(0)
        if self.down:
            raise InfrastructureError("the engine is gone")
        if name in self.failures:
            return Pulled(reference=name, status="failed", failure=self.failures[name], why="as it was told")
        self.pulls.append(name)
        self.there.add(name)
        self.ledger.record(LedgerEntry(name=str(want.reference), origin="bench", image_id=f"id of {name}"))
        return Pulled(reference=name, status="pulled", image_id=f"id of {name}")

    def space_was_freed(self) -> None:
        """As a `Puller` has it."""


def window(
    engine: FakeEngine, wanted: Sequence[str], limit: int | None, ahead: int = 3, patience_s: float = 60.0
) -> ImageWindow:
    made: Any = engine
    counts = {name: wanted.count(name) for name in wanted}
    return ImageWindow(
        made, made, engine.ledger, counts, limit_bytes=limit, ahead=ahead, look_again_s=0.01, patience_s=patience_s
    )


async def work_through(
    shown: ImageWindow,
    wanted: Sequence[str],
    *,
    at_once: int = 2,
    use: Callable[[str], Any] = lambda name: asyncio.sleep(0),
) -> dict[str, str | None]:
    """Use the images in order, so many at once; returns what became of each."""
    places, outcomes = asyncio.Semaphore(at_once), {}

    async def one(name: str) -> None:
        await use(name)
        shown.release(name)
        places.release()

    async with asyncio.timeout(60), shown.open(lambda text: None), asyncio.TaskGroup() as users:
        for name in wanted:
            outcomes[name] = await shown.bring(name)
            if outcomes[name] is None:
                await places.acquire()
                users.create_task(one(name))
    return outcomes


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_used_is_there_and_the_limit_holds(seed: int) -> None:
    dice = random.Random(seed)
    bases = {f"base {n}": dice.randint(1, 40) for n in range(3)}
    registry: dict[str, dict[str, int]] = {}
    for n in range(10):
        base = dice.choice([*bases, None])
        own = dice.choice((1, 5, 20, 60, 150))
        registry[f"o/i{n}"] = ({base: bases[base]} if base else {}) | {f"own {n}": own}
    engine = FakeEngine(registry)
    kept = set(dice.sample(sorted(registry), 2))
    engine.there |= kept
    limit, in_use = 120, set()
    names = sorted(registry, key=lambda name: int(name[3:]))
    wanted = [name for name in names for _ in range(dice.randint(1, 3))]

    async def use(name: str) -> None:
        in_use.add(name)
        for _ in range(dice.randint(0, 30)):
            await asyncio.sleep(0)
            assert name in engine.there
            pulled_now = engine.pulls[-1:]  # it may turn out too large, and goes again
            assert engine.held(engine.there - kept - set(pulled_now)) <= limit
        in_use.discard(name)

    outcomes = await work_through(window(engine, wanted, limit), wanted, at_once=dice.randint(1, 4), use=use)
    for name, why in outcomes.items():
        too_large = name not in kept and engine.held({name}) > limit
        assert (why is not None) == too_large, (name, why)
        assert why is None or "--disk" in why
    assert kept <= engine.there
    assert not kept & set(engine.removed)
    assert engine.held(engine.there - kept) <= limit
    assert not engine.ledger.held()


async def test_shared_layers_count_once() -> None:
    engine = FakeEngine({f"o/i{n}": {"base": 90, f"own {n}": 2} for n in range(4)})
    await work_through(window(engine, list(engine.registry), 200), list(engine.registry))
    assert engine.removed == []


async def test_an_image_is_pulled_ahead_of_its_use_but_not_far() -> None:
    engine = FakeEngine({f"o/i{n}": {f"own {n}": 1} for n in range(6)})
    shown = window(engine, list(engine.registry), None, ahead=2)
    async with shown.open(lambda text: None):
        assert await shown.bring("o/i0") is None
        await until(lambda: len(engine.pulls) == 3)
        await asyncio.sleep(0.05)
        assert engine.pulls == ["o/i0", "o/i1", "o/i2"]


async def test_what_an_earlier_run_brought_goes_first_and_what_others_pulled_stays() -> None:
    engine = FakeEngine({name: {name: 40} for name in ("o/old", "o/pulled", "o/bare", "o/a", "o/b")})
    engine.there = {"o/old", "o/pulled", "o/bare"}
    engine.ledger.record(LedgerEntry(name="docker.io/o/old:latest", origin="bench", image_id="id of o/old"))
    engine.ledger.record(LedgerEntry(name="docker.io/o/pulled:latest", origin="pull", image_id="id of o/pulled"))
    told: list[str] = []
    shown = window(engine, ["o/a", "o/b"], 100)
    async with shown.open(told.append):
        assert await shown.bring("o/a") is None
        assert await shown.bring("o/b") is None
    assert engine.removed == ["o/old"]
    assert any("o/old:latest is removed" in line for line in told)


async def test_what_a_container_or_another_run_uses_is_waited_for() -> None:
    engine = FakeEngine({name: {name: 60} for name in ("o/old", "o/a")})
    engine.there = {"o/old"}
    engine.ledger.record(LedgerEntry(name="docker.io/o/old:latest", origin="bench", image_id="id of o/old"))
    engine.containers = {"o/old"}
    told: list[str] = []
    shown = window(engine, ["o/a"], 100)
    async with shown.open(told.append):
        bringing = asyncio.create_task(shown.bring("o/a"))
        # The first image of a window is tried whatever it takes, and goes again while there is no room for it.
        await until(lambda: any("waits for images" in line for line in told))
        assert "o/old" in engine.there
        engine.containers.clear()
        assert await bringing is None
    assert engine.there == {"o/a"}


async def test_an_image_that_cannot_be_had_is_told_and_the_others_come() -> None:
    engine = FakeEngine({name: {name: 1} for name in ("o/a", "o/b", "o/c")}, failures={"o/b": PullFailure.MISSING})
    outcomes = await work_through(window(engine, list(engine.registry), 100), list(engine.registry))
    assert outcomes == {"o/a": None, "o/b": "not in the registry: as it was told", "o/c": None}


async def test_when_the_engines_disk_is_full_what_is_done_makes_room() -> None:
    engine = FakeEngine({name: {name: 40} for name in ("o/old", "o/a")}, failures={"o/a": PullFailure.NO_SPACE})
    engine.there = {"o/old"}
    engine.ledger.record(LedgerEntry(name="docker.io/o/old:latest", origin="bench", image_id="id of o/old"))
    engine.space_was_freed = lambda: engine.failures.clear()  # type: ignore[method-assign]
    assert await work_through(window(engine, ["o/a"], 100), ["o/a"]) == {"o/a": None}
    assert engine.removed == ["o/old"]


async def test_an_engine_that_is_gone_ends_the_wait() -> None:
    engine = FakeEngine({"o/a": {"a": 1}}, down=True)
    shown = window(engine, ["o/a"], 100, patience_s=0.0)
    async with shown.open(lambda text: None):
        with pytest.raises(InfrastructureError, match="gone"):
            await shown.bring("o/a")


async def test_an_engine_that_is_started_again_is_waited_for() -> None:
    engine, told = FakeEngine({"o/a": {"a": 1}}, down=True), []

    def tell(text: str) -> None:
        told.append(text)
        engine.down = False

    shown = window(engine, ["o/a"], 100)
    async with asyncio.timeout(60), shown.open(tell):
        assert await shown.bring("o/a") is None
    assert told[0] == "image o/a waits for the engine (the engine is gone)"


async def test_an_image_that_bench_brought_stays_once_somebody_pulls_it() -> None:
    engine = FakeEngine({"o/a": {"a": 1}})
    engine.there = {"o/a"}
    engine.ledger.record(LedgerEntry(name="docker.io/o/a:latest", origin="bench", image_id="id of o/a"))
    made: Any = engine
    want = Want(reference=Reference.parse("o/a"))
    await Puller(made, engine.ledger, origin="bench").pull(want)
    assert engine.ledger.entry("o/a").origin == "bench"  # type: ignore[union-attr]
    for puller in (Puller(made, engine.ledger), Puller(made, engine.ledger, origin="bench")):
        assert (await puller.pull(want)).status == "present"
        assert engine.ledger.entry("o/a").origin == "pull"  # type: ignore[union-attr]


async def test_layers_are_told_apart_by_their_digests_and_shared_ones_are_known() -> None:
    """Images that were made in one second have the same history; steps that only set something made no layer."""
    base, label = {"Created": 1, "CreatedBy": "base", "Size": 90}, {"Created": 2, "CreatedBy": "LABEL", "Size": 0}
    own = {"Created": 3, "CreatedBy": "COPY", "Size": 5}
    images = {
        "one": (["b", "1"], [own, label, base]),
        "two": (["b", "2"], [own, label, base]),
        "base": (["b"], [base]),
        "podmans": ([], [own, base]),
    }

    def answer(request: httpx.Request) -> httpx.Response:
        _, _, name, what = request.url.path.split("/")
        if name not in images:
            return httpx.Response(404, json={"message": "no such image"})
        digests, steps = images[name]
        return httpx.Response(200, json=steps if what == "history" else {"RootFS": {"Layers": digests}})

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://docker") as http:
        engine = Engine(http, "")
        one, two, alone = [await engine.layer_sizes(name) for name in ("one", "two", "base")]
        assert sorted((await engine.layer_sizes("podmans")).values()) == [5, 90]
        assert await engine.layer_sizes("gone") == {}
    assert sorted(one.values()) == sorted(two.values()) == [5, 90]
    assert one.keys() & two.keys() == alone.keys()


@pytest.mark.docker
async def test_a_backend_gives_up_an_image_that_no_task_needs(require_docker: None) -> None:
    image, ledger = "swe-aem/micro:1", Ledger.of_engine()
    async with DockerBackend() as backend:
        await backend.has_layer(SandboxSpec(image=image, layer="0" * 32))
        assert {name.partition(":")[0] for name in ledger.held()} == {
            "docker.io/swe-aem/micro",
            "docker.io/swe-aem/layer",
        }
        backend.release_image(image)
        assert not ledger.held()
        await backend.image_digest(image)
        assert len(ledger.held()) == 1


@pytest.mark.docker
async def test_a_real_engine_works_through_images_that_do_not_fit_together(
    registry: str, make_image: Callable[..., Any], hasty: PullConfig
) -> None:
    made = [make_image(files={"content": random.Random(n).randbytes(100_000)}) for n in range(3)]
    names = [image.at(registry) for image in made]
    client = docker.from_env()
    at_once: list[set[str]] = []

    def there() -> set[str]:
        return {name for name in names if any(name in (row["RepoTags"] or ()) for row in client.api.images())}

    async def use(name: str) -> None:
        at_once.append(there())
        assert name in at_once[-1]

    async with connect() as engine:
        ledger = Ledger.of_engine()
        puller = Puller(engine, ledger, config=hasty, origin="bench")
        shown = ImageWindow(engine, puller, ledger, dict.fromkeys(names, 1), limit_bytes=250_000, ahead=3)
        assert set((await work_through(shown, names, at_once=1, use=use)).values()) == {None}
        assert max(len(some) for some in at_once) == 2
        assert 200_000 <= await BroughtImages(engine, ledger).held_bytes() <= 250_000
    assert there() == {names[1], names[2]}
