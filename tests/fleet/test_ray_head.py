"""Heads of Ray clusters that let this process in or not: the real process of a head, without hosts."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from swe_aem import load_tasks
from swe_aem.cli import main
from swe_aem.errors import UserError
from swe_aem.fleet.ray_head import require_head

NODE = "1".zfill(56)
TOKEN, OTHER = "a" * 64, "b" * 64


@dataclass(frozen=True)
class Heads:
    """Where they listen."""

    asks: str
    """Asks for `TOKEN`."""
    open: str
    """Asks for none."""


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Heads]:
    services = pytest.importorskip("ray._private.services", reason="needs the cluster extra")
    directory = tmp_path_factory.mktemp("heads")
    asks = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN}
    program = Path(services.GCS_SERVER_EXECUTABLE)
    with head(program, directory / "asks", asks) as one, head(program, directory / "open", {}) as other:
        yield Heads(one, other)


@contextmanager
def head(program: Path, directory: Path, given: dict[str, str]) -> Iterator[str]:
    """The process that `ray start --head` begins with; yields where it listens."""
    directory.mkdir()
    options = {"log_dir": directory, "config_list": "e30=", "gcs_server_port": 0, "metrics-agent-port": 0}
    options |= {"node-ip-address": "127.0.0.1", "session-name": "s", "session-dir": directory, "node-id": NODE}
    command = [program, *(f"--{name}={value}" for name, value in options.items())]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | given
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        port, end_s = directory / f"gcs_server_port_{NODE}", time.monotonic() + 60
        while not (port.exists() and port.read_text()):
            over = process.poll() is not None or time.monotonic() > end_s
            assert not over, (directory / "log").read_text()
            time.sleep(0.02)
        yield f"127.0.0.1:{port.read_text()}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The file of this process's token, the right one."""
    for name in [name for name in os.environ if name.startswith("RAY_")]:
        monkeypatch.delenv(name)
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(file))
    return file


def test_who_has_the_token_is_let_in(heads: Heads, token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require_head(heads.asks)
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/nowhere")
    require_head(heads.asks)


@pytest.mark.parametrize("wrong", [OTHER, TOKEN[:-1], "long" * 1000])
def test_another_token_is_said_with_what_to_do(heads: Heads, token: Path, wrong: str) -> None:
    token.write_text(wrong)
    with pytest.raises(UserError, match="has another token than this process: set RAY_AUTH_TOKEN_PATH"):
        require_head(heads.asks)


def test_a_token_that_is_not_there_is_said_by_its_path(
    heads: Heads, token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token.write_text("\n")
    with pytest.raises(UserError, match="token: it is empty"):
        require_head(heads.asks)
    token.unlink()
    with pytest.raises(UserError, match="token: No such file or directory"):
        require_head(heads.asks)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH")
    monkeypatch.setenv("HOME", str(token.parent))
    with pytest.raises(UserError, match=f"{token.parent}/.ray/auth_token: No such file"):
        require_head(heads.asks)


def test_a_cluster_that_asks_nobody_for_a_token_is_refused(heads: Heads, token: Path) -> None:
    with pytest.raises(
        UserError, match=r"asks for no token: whoever reaches it may run code there.* RAY_AUTH_MODE=token"
    ):
        require_head(heads.open)


@pytest.mark.parametrize(
    "command",
    [
        ["rollout", "--tasks", "tasks/nano", "--limit", "1", "--out", "OUT"],
        ["train", "configs/quickstart.yaml", "--out", "OUT"],
        ["train", "configs/quickstart.yaml", "--out", "OUT", "--launch"],
        ["tasks", "check", "--tasks", "tasks/nano", "--limit", "1", "--lock", "OUT/lock"],
        ["grade", "--tasks", "tasks/nano", "--predictions", "PREDICTIONS", "--out", "OUT"],
        ["bench", "tasks/nano", "--policy", "gold", "--limit", "1", "--out", "OUT"],
        ["cluster", "status"],
    ],
    ids=" ".join,
)
def test_each_command_says_so_in_one_line(
    heads: Heads,
    token: Path,
    tmp_path: Path,
    command: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    token.write_text(OTHER)
    predictions = tmp_path / "predictions.jsonl"
    instance = load_tasks("tasks/nano", limit=1)[0].task.id
    predictions.write_text(json.dumps({"instance_id": instance, "model_name_or_path": "m", "model_patch": ""}) + "\n")
    words = [word.replace("OUT", str(tmp_path / "out")).replace("PREDICTIONS", str(predictions)) for word in command]
    monkeypatch.setattr(sys, "argv", ["swe-aem", *words, "--cluster", heads.asks])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = [line for line in capfd.readouterr().err.splitlines() if heads.asks in line]
    assert (ended.value.code, "another token" in line) == (2, True)
