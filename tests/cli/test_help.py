"""The root of the command line: fast, lazy, and plain about mistakes."""

import importlib
import os
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

import swe_aem.cli
from swe_aem import __version__
from swe_aem.errors import InfrastructureError, UserError
from tests.waiting import cpu_s

COMMAND = [sys.executable, "-c", "from swe_aem.cli import main; main()"]


def test_help_answers_within_300_ms() -> None:
    times_s = []
    for _ in range(5):
        before_s = cpu_s()
        done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, check=True)
        times_s.append(cpu_s() - before_s)
    assert all(verb in done.stdout for verb in swe_aem.cli.VERBS)
    assert min(times_s) < 0.3, times_s


def test_help_imports_no_verb_and_nothing_heavy() -> None:
    code = (
        "import sys, contextlib, swe_aem.cli\n"
        "sys.argv = ['swe-aem', '--help']\n"
        "with contextlib.suppress(SystemExit): swe_aem.cli.main()\n"
        "heavy = {'pydantic', 'torch', 'transformers', 'datasets', 'swebench', 'renderers', 'docker', 'rich', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)), [m for m in sys.modules if m.startswith('swe_aem.cli.')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[] ['swe_aem.cli.logged', 'swe_aem.cli.tell', 'swe_aem.cli.command']"


def test_version() -> None:
    result = CliRunner().invoke(swe_aem.cli.app, ["--version"])
    assert (result.exit_code, result.output.strip()) == (0, __version__)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["zzz"], "No such command 'zzz'. `swe-aem --help` lists all."),
        (["rolout"], "No such command 'rolout' (did you mean rollout?)"),
        (["seedling"], "The command seedling is now called init-tiny-model."),
        (["tasks", "shwo"], "Did you mean 'show'?"),
        (["images", "pul"], "Did you mean 'pull'?"),
    ],
)
def test_an_unknown_verb_is_refused_with_what_it_may_stand_for(words: list[str], said: str) -> None:
    result = CliRunner().invoke(swe_aem.cli.app, words)
    assert result.exit_code == 2
    assert said in " ".join(result.output.split())
    assert swe_aem.cli.RENAMED.keys().isdisjoint(swe_aem.cli.VERBS)
    assert set(swe_aem.cli.RENAMED.values()) <= set(swe_aem.cli.VERBS)


def completions(words: str) -> list[str]:
    """What bash offers for the last word."""
    environment = {"_SWE_AEM_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    code = "import sys; sys.argv = ['swe-aem']; from swe_aem.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("swe-aem re", ["recompute-rewards", "replay-advantages", "report"]),
        ("swe-aem tasks s", ["show", "synth", "select", "split"]),
        ("swe-aem rollout --tasks m", ["micro"]),
        ("swe-aem rollout --agent n", ["native", "noop"]),
        ("swe-aem rollout --policy g", ["gold"]),
        ("swe-aem rollout --sandbox ", ["bubblewrap", "docker", "podman"]),
        ("swe-aem rollout --lock-p", ["--lock-policy"]),
    ],
)
def test_a_shell_completes_verbs_choices_and_names(words: str, offered: list[str]) -> None:
    assert sorted(completions(words)) == sorted(offered)


def test_completing_a_verb_imports_none() -> None:
    code = (
        "import sys, contextlib, swe_aem.cli\n"
        "sys.argv = ['swe-aem']\n"
        "with contextlib.suppress(SystemExit): swe_aem.cli.main()\n"
        "kept = ('command', 'logged', 'tell')\n"
        "print([m for m in sys.modules if m.startswith('swe_aem.cli.') and not m.endswith(kept)])"
    )
    environment = {"_SWE_AEM_COMPLETE": "complete_bash", "COMP_WORDS": "swe-aem ", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, **environment}
    )
    assert done.stdout.splitlines()[:-1] == list(swe_aem.cli.VERBS)
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_shell_script_for_completion_is_shown() -> None:
    named = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # CI's parent process is no shell
    shown = [*COMMAND, "--show-completion", "bash"]
    done = subprocess.run(shown, capture_output=True, text=True, check=False, env=named)
    assert "complete" in done.stdout


def test_an_interrupted_verb_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("swe_aem.tasks.load_tasks", interrupt)
    result = CliRunner().invoke(swe_aem.cli.app, ["tasks", "list"])
    assert (result.exit_code, result.stderr) == (130, "swe-aem: interrupted\n")


@pytest.mark.parametrize("verb", [["rollout"], ["export"], ["export", "preds"]])
def test_verbs_explain_themselves(verb: list[str]) -> None:
    result = CliRunner().invoke(swe_aem.cli.app, [*verb, "--help"])
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output


def leaves() -> list[list[str]]:
    """Every command that does something, as the words that call it."""
    found = []
    for verb in swe_aem.cli.VERBS:
        command = typer.main.get_command(importlib.import_module(f"swe_aem.cli.{verb.replace('-', '_')}").app)
        parts = getattr(command, "commands", None)
        found += [[verb, part] for part in parts] if parts else [[verb]]
    return found


def test_every_command_teaches_with_an_example() -> None:
    for words in leaves():
        said = CliRunner().invoke(swe_aem.cli.app, [*words, "--help"]).output
        assert f"swe-aem {' '.join(words)}" in " ".join(said.partition("Example")[2].split()), words


def test_no_line_of_a_list_of_commands_is_cut_off() -> None:
    for verb in ("tasks", "images", "sandbox", "harness", "export", "init"):
        said = CliRunner().invoke(swe_aem.cli.app, [verb, "--help"]).output
        assert "..." not in said.partition("Commands:")[2], said


def test_a_missing_library_names_the_extra() -> None:
    code = "import sys; sys.modules['torch'] = None; from swe_aem.cli import main; main()"
    words = ["diagnose", "runs/x", "--model", "m"]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "swe-aem: torch is not installed: install the extra with `uv sync --extra transformers`\n"


def test_a_verb_that_cannot_be_imported_does_not_spoil_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(swe_aem.cli.VERBS, "absent", "Not there.")
    assert "Not there." in CliRunner().invoke(swe_aem.cli.app, ["--help"]).output
    assert CliRunner().invoke(swe_aem.cli.app, ["export", "--help"]).exit_code == 0
    assert isinstance(CliRunner().invoke(swe_aem.cli.app, ["absent"]).exception, ModuleNotFoundError)


def test_a_user_error_is_one_line_and_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise UserError("no such thing;\n  install it")

    monkeypatch.setattr(swe_aem.cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        swe_aem.cli.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == "swe-aem: no such thing; install it\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (InfrastructureError("the engine is gone"), 1, "swe-aem: the engine is gone\n"),
        (PermissionError(13, "Permission denied", "/etc/x"), 2, "swe-aem: /etc/x: Permission denied\n"),
    ],
)
def test_what_a_user_can_act_on_is_one_line(
    error: Exception, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(swe_aem.cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        swe_aem.cli.main()
    assert (ended.value.code, capsys.readouterr().err) == (code, said)
