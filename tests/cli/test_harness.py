"""`swe-aem harness`: what is listed, and what is said where nothing is installed."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

import swe_aem.cli
from swe_aem.errors import UserError


def invoke(*words: str) -> str:
    result = CliRunner().invoke(swe_aem.cli.app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def test_the_list_says_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path))
    said = invoke("harness", "ls")
    assert "openhands-sdk==1.58.0 openhands-tools==1.58.0  [swe-aem harness install openhands]" in said
    assert "options: config=swebench.yaml command_timeout_s=60" in said


def test_a_rollout_names_the_command_that_installs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path / "cache"))
    words = [
        "rollout",
        "--agent",
        "openhands",
        "--policy",
        "gold",
        "--limit",
        "1",
        "--no-limits",
        "--out",
        str(tmp_path),
    ]
    with pytest.raises(UserError, match="not installed: swe-aem harness install openhands"):
        invoke(*words)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--agent", "wizard"], "agent wizard is unknown"),
        (["--agent", "openhands"], "agent openhands needs policy"),
        (["--agent", "openhands", "--policy", "replay"], "needs replay_from"),
        (["--agent", "nowhere.py", "--policy", "gold"], "no harness nowhere.py"),
        (["--agent", "openhands", "--policy", "gold", "--command-timeout-s", "3"], "only for agent native"),
        (["--agent", "gold", "--set", "harness.workers=2"], "harness is only for harnesses"),
        (["--agent", "openhands", "--policy", "http://x"], "needs tokenizer"),
    ],
)
def test_settings_that_do_not_fit_are_refused(words: list[str], why: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=why):
        invoke("rollout", *words, "--no-limits", "--limit", "1", "--out", str(tmp_path))
