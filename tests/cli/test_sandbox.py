"""`swe-aem sandbox`: ls, prune and shell."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import swe_aem.cli
from swe_aem.core import SandboxInfo, SandboxSpec
from swe_aem.sandbox import open_backend

SWE_AEM = [sys.executable, "-m", "swe_aem", "sandbox"]


def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*SWE_AEM, *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.bubblewrap
async def test_ls_shows_a_live_sandbox_and_prune_spares_it(require_bubblewrap: None) -> None:
    spec = SandboxSpec(image="swe-aem/micro:1", workdir="/tmp", labels={"trajectory": "t.0"})
    async with open_backend("bubblewrap").open(spec) as live:
        listed = await asyncio.to_thread(typed, "ls", "--sandbox", "bubblewrap", "--json")
        (row,) = [row for row in map(json.loads, listed.stdout.splitlines()) if row["id"] == live.id]
        assert (row["owner_alive"], row["labels"]) == (True, {"trajectory": "t.0"})
        table = await asyncio.to_thread(typed, "ls", "--sandbox", "bubblewrap")
        assert f"{live.id} " in table.stdout
        pruned = await asyncio.to_thread(typed, "prune", "--sandbox", "bubblewrap")
        assert live.id not in pruned.stdout
        assert await live.alive()


def test_a_sandbox_that_two_backends_list_is_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {"image": "i", "owner_alive": True, "expired": False, "age_s": 1.0, "labels": {}}
    rows = [[SandboxInfo(id=id, backend=backend, **info) for id in ids] for backend, ids in (("a", "x"), ("b", "xy"))]
    monkeypatch.setattr("swe_aem.cli.sandbox._on_each", lambda name, call: rows)
    said = CliRunner().invoke(swe_aem.cli.app, ["sandbox", "ls", "--json"]).stdout
    assert [(row["id"], row["backend"]) for row in map(json.loads, said.splitlines())] == [("x", "a"), ("y", "b")]


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_a_killed_owner_leaves_nothing_after_prune(require_bubblewrap: None) -> None:
    code = (
        "import asyncio, os\n"
        "from swe_aem.core import SandboxSpec\n"
        "from swe_aem.sandbox import open_backend\n"
        "async def main():\n"
        "    spec = SandboxSpec(image='swe-aem/micro:1', workdir='/tmp')\n"
        "    async with open_backend('bubblewrap').open(spec) as sandbox:\n"
        "        print(sandbox.id, flush=True)\n"
        "        os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    for _ in range(3):  # a rollout beside this test may be the first to prune what the killed one left
        id = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout.strip()
        assert id
        pruned = typed("prune").stdout
        assert id not in typed("ls", "--json").stdout
        if id in pruned:
            return
    raise AssertionError("prune names nothing that it removed")


@pytest.mark.bubblewrap
def test_prune_needs_no_packed_images(require_bubblewrap: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWE_AEM_IMAGES", "/no/such/directory")
    pruned = typed("prune", "--sandbox", "bubblewrap")
    assert (pruned.returncode, "left out" in pruned.stderr) == (0, False), pruned.stderr


def test_errors_name_what_there_is() -> None:
    unknown = typed("ls", "--sandbox", "dokcer")
    assert unknown.returncode == 2
    assert "no sandbox 'dokcer' (did you mean docker?); choose one of bubblewrap, docker," in unknown.stderr
    absent = subprocess.run(
        [*SWE_AEM, "ls", "--sandbox", "docker"],
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (absent.returncode, absent.stderr.count("\n")) == (2, 1)
    assert "no docker engine answers at unix:///nowhere: no such file or directory. Start it" in absent.stderr
    missing = typed("shell", "no-such-task", "--command", "true")
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert "no-such-task" in missing.stderr


@pytest.mark.bubblewrap
def test_a_shell_is_inside_the_tasks_sandbox(require_bubblewrap: None) -> None:
    id = json.loads(swe_aem_tasks("list", "--json").stdout.splitlines()[0])["id"]
    ours, theirs = pty.openpty()
    shell = subprocess.Popen([*SWE_AEM, "shell", id], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    os.write(ours, b"echo in:$(pwd):$(hostname):$(git log --oneline | wc -l); exit 5\n")
    seen = b""
    while True:
        try:
            data = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not data:
            break
        seen += data
    assert shell.wait(timeout=60) == 5
    assert b"in:/testbed:sandbox:1" in seen


def swe_aem_tasks(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "swe_aem", "tasks", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


ALMANAC = "micro__almanac-comparison-0f71c626"


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param("bubblewrap", marks=pytest.mark.bubblewrap), pytest.param("docker", marks=pytest.mark.docker)]
)
def test_a_command_in_an_agents_place_is_captured_and_graded(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(f"require_{kind}")
    options = [ALMANAC, "--sandbox", kind]
    commits = typed("shell", *options, "-c", "git log --oneline | wc -l; exit 3")
    assert (commits.returncode, commits.stdout.strip()) == (3, "1")
    patch = tmp_path / "done.diff"
    solved = typed("shell", *options, "--apply", "gold", "-c", "true", "--patch", str(patch), "--grade")
    assert (solved.returncode, solved.stdout[:9]) == (0, "resolved:")
    again = typed("shell", *options, "--apply", str(patch), "-c", "echo >> README.md", "--grade")
    assert again.returncode == 0
    undone = typed("shell", *options, "-c", "true", "--grade")
    assert (undone.returncode, undone.stdout) == (1, "not resolved: the patch is empty or does not apply\n")


@pytest.mark.bubblewrap
@pytest.mark.slow
def test_a_wrong_shell_command_names_the_fix(require_bubblewrap: None, tmp_path: Path) -> None:
    (tmp_path / "odd.diff").write_text("--- a/none\n+++ b/none\n@@ -1 +1 @@\n-a\n+b\n")
    cases = {
        "a prompt needs a terminal": (ALMANAC,),
        "give a file with a diff, or gold": (ALMANAC, "-c", "true", "--apply", "nowhere.diff"),
        "does not fit": (ALMANAC, "-c", "true", "--apply", str(tmp_path / "odd.diff")),
        "swe-aem tasks list": ("no-such-task", "-c", "true"),
    }
    for said, arguments in cases.items():
        done = typed("shell", *arguments)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
