"""The heads of harnesses, and what they ask for."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from swe_aem.errors import UserError
from swe_aem.harness.environment import directory, install, installed, interpreter, packages
from swe_aem.harness.spec import BUNDLED, INSIDE, HarnessSpec, package, read_harness_spec
from tests.conftest import absent
from tests.walk import walk

HEAD = (
    '# /// script\n# dependencies = ["b>=1", "a"]\n#\n# [tool.swe-aem]\n# shell = "x"\n# finish = { y = {} }\n# ///\n'
)
NPM = HEAD.removesuffix("# ///\n") + '# inside = true\n# npm = { a = "1.0.0", b = "npm:@x/b@1.2.3-{cpu}" }\n# ///\n'


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_harnesses_pin_every_package(name: str) -> None:
    spec = read_harness_spec(name)
    assert spec.name == name
    assert spec.locked or not spec.dependencies, "no lock beside it"
    assert spec.locked or spec.npm
    assert set(spec.dependencies) <= {line.split(" ;")[0] for line in spec.locked}
    assert all("==" in line for line in spec.locked)


def test_the_walks_harness_takes_less_than_a_hundred_lines(tmp_path: Path) -> None:
    file = tmp_path / "my_agent.py"
    file.write_text(walk().harness)
    assert len(walk().harness.splitlines()) < 100
    spec = read_harness_spec(str(file))
    assert (spec.name, spec.shell, spec.finish, spec.dependencies) == ("my_agent", "run", {"done": {}}, ())


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print()\n", "no `# /// script` head"),
        ("# /// script\n# [\n# ///\n", "not TOML"),
        ("# /// script\n# dependencies = []\n# ///\n", "shell is missing: give a string"),
        (HEAD.replace("# shell", "# shel = 3\n# shell"), "shel is unknown"),
        (NPM.replace("# inside = true\n", ""), "add inside = true"),
        (NPM.replace("1.2.3", "latest"), "b has 'npm:@x/b@latest-{cpu}': give one version"),
    ],
)
def test_a_head_that_says_too_little_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "x.py"
    file.write_text(text)
    with pytest.raises(UserError, match=why):
        read_harness_spec(str(file))


def test_an_unknown_harness_is_refused() -> None:
    with pytest.raises(UserError, match=r"openhands, or a \.py file"):
        read_harness_spec("nowhere.py")


def test_pins_take_the_place_of_what_the_head_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path))
    file = tmp_path / "x.py"
    file.write_text(HEAD)
    spec = read_harness_spec(str(file))
    assert spec.requirements(("B==2",)) == ("a", "B==2")
    assert directory(spec) != directory(spec, ("B==2",))
    with pytest.raises(UserError, match=r"swe-aem harness install .*x\.py --pin B==2"):
        interpreter(spec, ("B==2",))


def npm_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, head: str = NPM) -> HarnessSpec:
    monkeypatch.setenv("SWE_AEM_CACHE", str(tmp_path))
    file = tmp_path / "x.py"
    file.write_text(head)
    read_harness_spec.cache_clear()
    return read_harness_spec(str(file))


def test_packages_of_npm_have_the_words_of_this_machine_and_pins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    spec = npm_spec(tmp_path, monkeypatch)
    assert spec.npm_packages() == ("a@1.0.0", "b@npm:@x/b@1.2.3-arm64")
    pins = ("b==2.0.0", "c==3")
    assert spec.npm_packages(pins) == ("a@1.0.0", "b@npm:@x/b@2.0.0")
    assert spec.requirements(pins) == ("b>=1", "a", "c==3")
    assert packages(spec) != packages(spec, pins)
    with pytest.raises(UserError, match=r"pinned as b==VERSION"):
        spec.npm_packages(("b",))


def test_without_npm_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = shutil.which("uv")
    if uv is None:
        absent("uv is not installed")
    assert uv is not None
    spec = npm_spec(tmp_path, monkeypatch, NPM.replace('["b>=1", "a"]', "[]"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").symlink_to(uv)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match="apt-get install npm"):
        install(spec)
    assert not installed(spec)


@pytest.mark.slow
def test_a_version_that_is_not_there_says_which_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("uv") is None or shutil.which("npm") is None:
        absent("uv or npm is not installed")
    head = NPM.replace('["b>=1", "a"]', "[]").replace('a = "1.0.0"', 'left-pad = "77.0.0"').replace(", b = ", "# b = ")
    spec = npm_spec(tmp_path, monkeypatch, re.sub(r"# b = .*", "}", head))
    with pytest.raises(UserError, match=r"No matching version found for left-pad@77\.0\.0(.|\n)*npm view"):
        install(spec)


@pytest.mark.parametrize(("requirement", "name"), [("A_b.c==1", "a-b-c"), ("a[x]>=2 ; sys", "a"), ("a @ file:x", "a")])
def test_names_of_packages(requirement: str, name: str) -> None:
    assert package(requirement) == name


def test_what_runs_inside_needs_nothing_of_this_package() -> None:
    files = [str(path) for path in INSIDE.glob("*.py")]
    found = subprocess.run(["grep", "-lE", r"^(from|import) swe_aem[. ]", *files], capture_output=True, text=True)
    assert found.stdout == ""
