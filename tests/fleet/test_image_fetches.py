"""Images come to a host before the groups that wait there have places."""

import asyncio
from pathlib import Path

from swe_aem.core import Outcome
from swe_aem.errors import StartError
from swe_aem.fleet.image_fetches import ImageFetches
from swe_aem.fleet.roller import RemoteRoller
from swe_aem.testing.sandbox import FakeBackend
from swe_aem.testing.virtual_time import run_in_virtual_time
from tests.fleet.fakes import FleetBench


class Fetching:
    """Fetches of ten seconds each."""

    def __init__(self) -> None:
        self.most_at_once = 0
        self.under_way: list[str] = []
        self.fetched: list[str] = []

    async def __call__(self, image: str) -> None:
        self.under_way.append(image)
        self.most_at_once = max(self.most_at_once, len(self.under_way))
        try:
            await asyncio.sleep(10.0)
            if image == "broken":
                raise StartError("no such file")
            self.fetched.append(image)
        finally:
            self.under_way.remove(image)


def test_a_few_come_at_a_time_and_each_once_whatever_fails() -> None:
    async def main() -> None:
        fetching, told = Fetching(), list[str]()
        images = ImageFetches(fetching, told.append)
        for _ in range(100):
            images.want(("a", "broken", "b", "c"))
            await asyncio.sleep(1.0)
        assert sorted(fetching.fetched) == ["a", "b", "c"]
        assert fetching.most_at_once == 2
        assert told == ["fetching the image broken failed: StartError: no such file"]

    run_in_virtual_time(main())


def test_what_no_group_waits_for_any_more_is_not_fetched_to_its_end_unless_a_job_has_begun() -> None:
    async def main() -> None:
        fetching = Fetching()
        images = ImageFetches(fetching, lambda said: None)
        images.want(("a", "b", "c", "d"))
        await asyncio.sleep(5.0)
        images.begin("a")
        images.begin("never wanted")
        images.want(("d",))
        await asyncio.sleep(1.0)
        assert fetching.under_way == ["a", "d"]
        await asyncio.sleep(30.0)
        assert fetching.fetched == ["a", "d"]
        images.want(("e",))
        await asyncio.sleep(5.0)
        await images.close()
        assert fetching.under_way == []
        assert fetching.fetched == ["a", "d"]

    run_in_virtual_time(main())


class FetchingBackend(FakeBackend):
    """It notes when each image is fetched; one cannot be."""

    def __init__(self) -> None:
        super().__init__()
        self.fetched_s: dict[str, float] = {}

    async def fetch_image(self, image: str) -> None:
        if image == "image-9":
            raise StartError("no such file")
        self.fetched_s[image] = asyncio.get_running_loop().time()


def test_a_host_fetches_the_images_of_groups_that_wait_while_it_is_full(tmp_path: Path) -> None:
    async def main() -> None:
        made = FleetBench(tmp_path, tasks=12, work_s=20.0)
        made.bench.records = [
            record.model_copy(update={"task": record.task.model_copy(update={"image": f"image-{number}"})})
            for number, record in enumerate(made.bench.records)
        ]
        begun_s: dict[str, float] = {}

        async def watch(roller: RemoteRoller) -> None:
            while True:
                for backend in made.backends.values():
                    for sandbox in backend.opened:
                        begun_s.setdefault(sandbox.spec.image, asyncio.get_running_loop().time())
                await asyncio.sleep(0.1)

        for name in "ab":
            made.backends[name] = FetchingBackend()
            made.host(name)
        await made.run(watch)
        assert {one.outcome for one in made.bench.stored().values()} == {Outcome.RESOLVED}
        fetched_s = {image: at for one in made.backends.values() for image, at in one.fetched_s.items()}  # type: ignore[attr-defined]
        ahead = [image for image, at_s in fetched_s.items() if begun_s[image] >= at_s + 5.0]
        assert len(ahead) >= 6, "all but the first ones, and those that moved to a host without a group"
        assert "fetching the image image-9 failed: StartError: no such file" in made.told

    run_in_virtual_time(main())
