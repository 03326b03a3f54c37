"""The committed wardens are those of the committed source, and they refuse to run where they could do harm."""

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from swe_aem.errors import UserError
from swe_aem.sandbox.warden import warden_binary

SOURCE = Path(__file__).parents[2] / "sandboxes" / "warden"


def source_digest() -> str:
    parts = [*sorted(SOURCE.glob("*.h")), SOURCE / "warden.c"]
    return hashlib.sha256(b"".join(part.read_bytes() for part in parts)).hexdigest()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_binary_was_built_from_this_source(machine: str) -> None:
    assert b"warden-source=" + source_digest().encode() in warden_binary(machine).read_bytes()


def test_the_source_builds_to_the_same_code(tmp_path: Path) -> None:
    machine = platform.machine()
    if shutil.which(f"{machine}-linux-gnu-gcc") is None:
        pytest.skip(f"no {machine}-linux-gnu-gcc on this host")
    environment = {**os.environ, "ARCHITECTURES": machine}
    subprocess.run([SOURCE / "build.sh", tmp_path], check=True, capture_output=True, env=environment)
    built = tmp_path / f"warden-{machine}"
    assert source_digest().encode() in built.read_bytes()
    assert built.stat().st_size < 64 << 10


def test_it_is_static(tmp_path: Path) -> None:
    assert b"ld-linux" not in warden_binary("x86_64").read_bytes()
    assert b"ld-linux" not in warden_binary("aarch64").read_bytes()


def test_it_serves_only_as_pid_1() -> None:
    done = subprocess.run(
        [warden_binary(), "serve", "60", "0", "0", "0", "/testbed", "0", "0"],
        capture_output=True,
        timeout=10,
        text=True,
    )
    assert done.returncode == 125
    assert "PID 1" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["serve"], ["launch", "--", "true"], ["what"]])
def test_bad_arguments_are_refused(arguments: list[str]) -> None:
    done = subprocess.run([warden_binary(), *arguments], capture_output=True, timeout=10, text=True)
    assert done.returncode == 125
    assert done.stderr.startswith("warden: ")


def test_an_unknown_architecture_names_the_fix() -> None:
    with pytest.raises(UserError, match=r"build\.sh"):
        warden_binary("vax")
    assert warden_binary("amd64") == warden_binary("x86_64")
    assert os.access(warden_binary(), os.X_OK)
