"""Ignore rules mean what git makes of them, for names that are nowhere on the disk."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from swe_aem.grading.ignore_rules import ignored_names

RULES = {
    ".gitignore": b"*.log\nbuild/\n!keep.log\nlib/\n",
    "sub/.gitignore": b"*\n!.gitignore\n",
    ".git/info/exclude": b"/top\n",
}


@pytest.mark.parametrize(
    ("name", "ignored"),
    [
        ("a.log", True), ("deep/er/a.log", True), ("keep.log", False), ("build", False), ("build/x", True),
        ("d/build/y/z", True), ("pkg/lib/new.py", True), ("sub/x", True), ("sub/.gitignore", False), ("top", True),
        ("d/top", False), (":(glob)x.log", True), (":!x.log", True), ("-rf.log", True), ("\udcff.log", True),
        ("a\nb.log", True), ('"q".log', True), ("[a].log", True), ("plain.py", False), ("*.log", True),
    ],
)  # fmt: skip
def test_a_name_is_ignored_as_git_says(name, ignored):
    assert (name in ignored_names(RULES, [name, "other.py"])) is ignored


def test_without_rules_or_names_nothing_is_ignored():
    assert ignored_names({}, ["a.log"]) == frozenset()
    assert ignored_names(RULES, []) == frozenset()


def test_the_hosts_configuration_ignores_nothing(tmp_path, monkeypatch):
    (tmp_path / ".gitconfig").write_text(f"[core]\n\texcludesFile = {tmp_path}/mine\n")
    (tmp_path / "mine").write_text("*.py\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    assert ignored_names({".gitignore": b"x\n"}, ["a.py", "x"]) == {"x"}


NAMES = st.lists(st.text("ab.*!/\\ #[]\n", min_size=1, max_size=6), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rules=NAMES.map("\n".join), names=st.lists(st.sampled_from("ab"), min_size=1, max_size=3).map("/".join))
def test_any_rules_say_the_same_as_in_a_work_tree(tmp_path_factory, make_repo, rules, names):
    repo = make_repo(str(tmp_path_factory.mktemp("ignored") / "repo"))
    repo.write({".gitignore": rules, names: "x"})
    others = repo.git("ls-files", "-z", "--others", "--exclude-standard").split("\0")
    assert (names in ignored_names({".gitignore": rules.encode()}, [names])) is (names not in others)
