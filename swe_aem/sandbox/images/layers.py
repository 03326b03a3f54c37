"""The progress of one pull, from the engine's messages about its layers."""

from typing import Any

_STAGES = {
    "Pulling fs layer": 0,
    "Waiting": 1,
    "Downloading": 2,
    "Verifying Checksum": 3,
    "Download complete": 4,
    "Extracting": 5,
    "Pull complete": 6,
    "Already exists": 6,
}
_WAITING, _DOWNLOADING, _DOWNLOADED, _COMPLETE, _DONE = 1, 2, 3, 4, 6
_DIGEST = "Digest: "


class Layers:
    """The state of a pull. Bytes are those of the compressed layers that have to be downloaded."""

    def __init__(self) -> None:
        self.digest: str | None = None
        """The manifest's digest, once the engine has told it."""
        self._marks: dict[str, tuple[int, int]] = {}
        self._sizes: dict[str, int] = {}

    def feed(self, message: dict[str, Any]) -> bool:
        """Take in a message; True if it shows progress."""
        status, layer = str(message.get("status", "")), message.get("id")
        if status.startswith(_DIGEST):
            self.digest = status.removeprefix(_DIGEST)
        if layer is None or status.startswith("Pulling from"):
            return True
        if status.startswith("Retrying in"):  # the engine begins again with this layer, which is no progress
            self._marks[layer] = (0, 0)
            return False
        stage = _STAGES.get(status)
        if stage is None:
            return False
        detail = message.get("progressDetail") or {}
        if stage == _DOWNLOADING and detail.get("total"):
            self._sizes[layer] = detail["total"]
        mark = (stage, int(detail.get("current") or 0))
        moved = mark > self._marks.get(layer, (-1, 0))
        if moved:
            self._marks[layer] = mark
        return moved

    @property
    def waiting(self) -> bool:
        """Are all remaining layers queued behind those of other pulls?"""
        busy = [stage for stage, _ in self._marks.values() if stage not in (_COMPLETE, _DONE)]
        return bool(busy) and all(stage == _WAITING for stage in busy)

    @property
    def done_bytes(self) -> int:
        """Compressed bytes downloaded so far."""
        return sum(
            self._sizes.get(layer, 0) if stage >= _DOWNLOADED else current
            for layer, (stage, current) in self._marks.items()
            if stage >= _DOWNLOADING
        )

    @property
    def total_bytes(self) -> int:
        """Compressed bytes of all layers whose size is known so far."""
        return sum(self._sizes.values())

    @property
    def counts(self) -> tuple[int, int]:
        """(layers done, layers known)."""
        return sum(stage >= _DONE for stage, _ in self._marks.values()), len(self._marks)
