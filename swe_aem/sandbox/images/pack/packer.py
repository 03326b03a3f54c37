"""`Packer`: what `Puller` needs of an engine, for a directory of packed images; and packing what an engine has."""

import asyncio
import errno
import json
import os
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from swe_aem.errors import InfrastructureError, TaskUnusable, UserError
from swe_aem.sandbox.images.engine import Engine, EngineImage
from swe_aem.sandbox.images.failures import PullError, PullFailure, classify
from swe_aem.sandbox.images.pack.layer_archive import Layer, Progress
from swe_aem.sandbox.images.pack.layer_store import LayerStore
from swe_aem.sandbox.images.pack.manifest import (
    MAX_CONFIG_BYTES,
    MAX_MANIFEST_BYTES,
    ImageConfig,
    Manifest,
    digest_of,
    malformed,
    read_config,
    read_manifest,
)
from swe_aem.sandbox.images.pack.merge import MergedImage
from swe_aem.sandbox.images.pack.registry import RegistryClient
from swe_aem.sandbox.images.pack.writers import (
    has_live_drafts,
    in_threads,
    open_draft,
    require_tools,
    sweep_drafts,
    write_image,
)
from swe_aem.sandbox.images.recipes import how_to_get
from swe_aem.sandbox.images.reference import Reference, canonical
from swe_aem.sandbox.packed import PackedDir, PackedImage, PackFormat
from swe_aem.sandbox.roots import ROOTFS_DIGEST, ROOTFS_ENV

KEPT_LAYERS_BYTES = 20 << 30
"""Layers that stay on disk while images are packed: those of a task set share most of them."""
_TELL_S = 1.0
_DOWNLOADING, _EXTRACTING = "Downloading", "Extracting"

Message = dict[str, Any]


class Packer:
    """Packs images into one directory. `tag` and `remove` change names; files stay, for their names are digests."""

    def __init__(self, packed: PackedDir, client: RegistryClient, format: PackFormat) -> None:
        """Raises `UserError` if this host lacks a program, or if the directory cannot be written."""
        require_tools(format)
        self.packed = packed
        self._client = client
        self._format: PackFormat = format
        self._layers = LayerStore(packed.path / ".layers")
        self._drafts = packed.path / ".drafts"
        try:
            self._drafts.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{packed.path} cannot be written ({error}); choose another directory with --to") from None
        sweep_drafts(self._drafts)

    @property
    def place(self) -> str:
        """How errors call the directory."""
        return str(self.packed.path)

    def how_to_remove(self, reference: Reference) -> str:
        """What a user does so that a reference is packed again."""
        return f"name another directory with --to, or delete names/*.json of {reference.familiar} there"

    async def inspect(self, name: str) -> EngineImage | None:
        """What a reference stands for, if it is packed in this format, and not damaged."""
        found = self._found(name)
        if found is None or found.format != self._format or not self._is_whole(found):
            return None
        bare = Reference.parse(name).name
        return EngineImage(
            id=found.image_id,
            tags=(name,),
            digests=() if found.digest is None else (f"{bare}@{found.digest}",),
            size_bytes=found.size_bytes,
            env=found.env,
        )

    async def pull(self, reference: Reference, auth: Mapping[str, str] | None) -> AsyncIterator[Message]:
        """Download and pack an image, and name it; the messages are those of an engine. Raises `PullError`."""
        with _explained(self.packed.path):
            manifest_digest, manifest, config = await self._described(reference, auth)
            yield {"status": f"Digest: {manifest_digest}"}
            image = self._image(reference, config, manifest_digest)
            if self._must_be_made(image):
                async for message in self._made(reference, auth, manifest, config, image):
                    yield message
            self._name(image)

    async def tag(self, name: str, reference: Reference) -> None:
        """Give the image with the id `name` another name."""
        found = next((image for image in self.packed.images() if image.image_id == name), None)
        if found is None:
            raise InfrastructureError(f"{self.place} has no image {name}")
        self.packed.name(found.model_copy(update={"reference": str(reference)}))

    async def remove(self, name: str) -> None:
        """Take a name away."""
        self.packed.forget(name)

    def close(self, *, finished: bool) -> None:
        """Remove the layers that were downloaded; unless an image is missing, which a rerun then has sooner, or another
        process packs here, which then removes them."""
        if finished and not has_live_drafts(self._drafts):
            self._layers.discard()

    async def from_engine(self, engine: Engine, name: str) -> tuple[PackedImage, bool]:
        """Pack an image that an engine has; was it made now? Raises `PullError` if the engine does not have it."""
        found = await engine.inspect(name)
        if found is None:
            kind = engine.kind.name
            said = f"the {kind} engine has no image {name!r}: get it with {how_to_get(name, kind)}"
            raise PullError(PullFailure.MISSING, said)
        config = ImageConfig(image_id=found.id, env=found.env, diff_ids=())
        image = self._image(Reference.parse(name), config, None)
        fresh = self._must_be_made(image)
        if fresh:
            with _explained(self.packed.path):
                async with open_draft(self._drafts) as draft, engine.export(found.id) as archive:
                    export = draft / "export.tar"
                    await _saved(archive, export)
                    layer = Layer(export, name, whiteouts=False)
                    async for _ in self._packed([layer], image, draft):
                        pass
        return self._name(image), fresh

    # -- one image -----------------------------------------------------------------------------------------------------

    async def _described(
        self, reference: Reference, auth: Mapping[str, str] | None
    ) -> tuple[str, Manifest, ImageConfig]:
        """Digest of what the reference names, and the manifest and configuration for this platform."""
        content = await self._client.manifest(reference, auth, MAX_MANIFEST_BYTES)
        top = digest_of(content)
        manifest = read_manifest(content)
        if isinstance(manifest, str):  # an index
            chosen = reference.model_copy(update={"tag": None, "digest": manifest})
            manifest = read_manifest(await self._client.manifest(chosen, auth, MAX_MANIFEST_BYTES))
        if isinstance(manifest, str):
            raise malformed("its index names another index")
        blob = await self._client.config(reference, manifest.config, auth, MAX_CONFIG_BYTES)
        return top, manifest, read_config(blob, manifest)

    async def _made(
        self,
        reference: Reference,
        auth: Mapping[str, str] | None,
        manifest: Manifest,
        config: ImageConfig,
        image: PackedImage,
    ) -> AsyncIterator[Message]:
        """Download what is missing and write the file."""
        for blob in manifest.layers:
            yield _message("Pulling fs layer", blob.digest)
        layers = []
        for blob, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            yield _message("Waiting", blob.digest)
            async for there_bytes in self._layers.download(self._client, reference, blob, auth):
                yield _message(_DOWNLOADING, blob.digest, there_bytes, blob.size_bytes)
            yield _message("Download complete", blob.digest)
            layers.append(Layer(self._layers.path(blob.digest), blob.digest[:19], diff_id))
        try:
            async with open_draft(self._drafts) as draft:
                async for read_bytes in self._packed(layers, image, draft):
                    yield _message(_EXTRACTING, image.image_id, read_bytes)
        except PullError as error:
            if error.kind is PullFailure.MALFORMED:  # the disk may be at fault: a rerun downloads them again
                for layer in layers:
                    layer.path.unlink(missing_ok=True)
            raise
        for blob in manifest.layers:
            yield _message("Pull complete", blob.digest)
        yield _message("Pull complete", image.image_id)
        await asyncio.to_thread(self._layers.keep_at_most, KEPT_LAYERS_BYTES, [blob.digest for blob in manifest.layers])

    async def _packed(self, layers: Sequence[Layer], image: PackedImage, draft: Path) -> AsyncIterator[int]:
        """Merge layers and write the file in one step; yields now and then how many bytes were read and written."""
        progress = Progress()
        writing = asyncio.create_task(self._write(layers, image, draft, progress))
        try:
            while not (await asyncio.wait({writing}, timeout=_TELL_S))[0]:
                yield progress.read_bytes + _size_bytes(draft / "image")
            await writing
        finally:
            progress.stopped = True
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, layers: Sequence[Layer], image: PackedImage, draft: Path, progress: Progress) -> None:
        own = {ROOTFS_DIGEST: f"{image.image_id}\n".encode(), ROOTFS_ENV: json.dumps(image.env).encode()}
        merged = await asyncio.to_thread(MergedImage, layers, own, progress)
        if "bin" not in merged:
            raise malformed("it has no /bin: no command could be run in it")
        await write_image(in_threads(merged.tar()), self._format, draft / "image", draft)
        os.replace(draft / "image", self.packed.file(image))

    def _found(self, name: str) -> PackedImage | None:
        """What a reference stands for; None also where its record cannot be read, for it will be written again."""
        with suppress(TaskUnusable):
            return self.packed.find(name)
        return None

    def _must_be_made(self, image: PackedImage) -> bool:
        """Is its file missing, or damaged?"""
        before = self._found(image.reference)
        if before is not None and before.file_name == image.file_name:
            return not self._is_whole(before)
        return not self.packed.file(image).is_file()

    def _is_whole(self, image: PackedImage) -> bool:
        """Has its file the size that it was written with? A copy that broke off has not."""
        return self.packed.file(image).stat().st_size == image.size_bytes

    def _image(self, reference: Reference, config: ImageConfig, digest: str | None) -> PackedImage:
        return PackedImage(
            reference=canonical(str(reference)),
            image_id=config.image_id,
            digest=digest,
            format=self._format,
            size_bytes=0,
            env=config.env,
        )

    def _name(self, image: PackedImage) -> PackedImage:
        named = image.model_copy(update={"size_bytes": self.packed.file(image).stat().st_size})
        self.packed.name(named)
        return named


def _size_bytes(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def _message(status: str, digest: str, current: int | None = None, total: int | None = None) -> Message:
    detail = {} if current is None else {"current": current} | ({} if total is None else {"total": total})
    return {"status": status, "id": digest.removeprefix("sha256:")[:12], "progressDetail": detail}


async def _saved(archive: AsyncIterator[bytes], path: Path) -> None:
    with path.open("xb") as file:
        async for chunk in archive:
            await asyncio.to_thread(file.write, chunk)


@contextmanager
def _explained(directory: Path) -> Iterator[None]:
    """What the disk says becomes what `Puller` understands."""
    try:
        yield
    except FileNotFoundError as error:
        raise PullError(PullFailure.OTHER, f"another process removed {error.filename} meanwhile") from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise PullError(PullFailure.NO_SPACE, f"{directory}: {error.strerror}") from None
        raise UserError(f"{directory} cannot be written ({error})") from None
    except PullError:
        raise
    except InfrastructureError as error:  # a program's words
        raise PullError(classify(str(error)), str(error)) from None
