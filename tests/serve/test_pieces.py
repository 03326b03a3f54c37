"""Weights in files, written by a process that is killed at any of its writes."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file

from swe_aem.serve.pieces import INDEX, TensorInfo
from swe_aem.serve.planes import ControlPlane
from swe_aem.serve.transport import FileTransport

PIECE_BYTES = 64
TENSORS = {f"layer.{number}": torch.full((4, 2), float(number)) for number in range(4)}  # 32 bytes each: two pieces
WRITES = len(TENSORS) + 2
"""One for each tensor, and one for the header of each piece."""
EXPECTED = [TensorInfo.of(name, tensor) for name, tensor in TENSORS.items()]


def sent(directory: Path) -> Path:
    """Send the tensors as a trainer does that has just begun; the directory of which servers are told."""
    transport = FileTransport(directory, piece_bytes=PIECE_BYTES)
    transport.open(cast("ControlPlane", None))
    parcel = transport.announce(EXPECTED, 1, "tag")
    transport.transmit(parcel, iter(TENSORS.items()))
    return Path(parcel.update_info["path"])


def killed_at_write(number: int, *, halfway: bool) -> None:
    """From now on the process ends at that write to a file, before it or in the middle of it."""
    write, left = os.pwrite, iter(range(number))

    def pwrite(file: int, content: Any, place: int) -> int:
        if next(left, None) is not None:
            return write(file, content, place)
        if halfway:
            write(file, memoryview(content)[: len(content) // 2], place)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError("not reached")

    os.pwrite = pwrite


def _sent_until_killed(directory: Path, number: int, halfway: bool) -> None:
    killed_at_write(number, halfway=halfway)
    sent(directory)


def loaded(directory: Path) -> dict[str, torch.Tensor]:
    assert (directory / INDEX).exists()
    return {name: one for path in directory.glob("*.safetensors") for name, one in load_file(path).items()}


@pytest.mark.parametrize("halfway", [False, True], ids=["before", "in the middle of"])
@pytest.mark.parametrize("number", range(WRITES))
def test_a_trainer_killed_at_a_write_leaves_nothing_to_load_and_the_next_one_sends_everything(
    tmp_path: Path, number: int, halfway: bool
) -> None:
    trainer = multiprocessing.get_context("fork").Process(target=_sent_until_killed, args=(tmp_path, number, halfway))
    trainer.start()
    trainer.join()
    assert trainer.exitcode == -signal.SIGKILL
    assert [path.name for path in tmp_path.glob("*/*")] == ["tag.1.part"]  # of which no server is told
    whole = sent(tmp_path)
    assert [path.name for path in tmp_path.glob("*/*")] == ["tag.1"]
    assert loaded(whole).keys() == TENSORS.keys()
    assert all(torch.equal(one, TENSORS[name]) for name, one in loaded(whole).items())
