"""`ExtensionPoint`: names, what they find, what is recorded of it, and the errors."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.extensions import ExtensionPoint, identity_of, stored_names

OWN = """
from swe_aem.core.base import Frozen

def plain(value):
    return value + 1

class Plain:
    def __init__(self, step=1, *, power=2):
        self.step, self.power = step, power

class Checked(Frozen):
    step: int = 1

class Outer:
    @staticmethod
    def inner(value):
        return -value

made = Checked(step=7)

async def later(value): pass

class Late:
    async def __call__(self, value): pass
"""


def in_this_module(value: int) -> int:
    return value


class Checked(Frozen):
    step: int = 1


@pytest.fixture
def point() -> ExtensionPoint[Any]:
    return ExtensionPoint(
        "reward", group="swe_aem.none", builtin={"parent": "pathlib:PurePath.parent", "ceil": "math:ceil"}
    )


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.py").write_text(OWN)
    return tmp_path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Two distributions on the path, which declare entry points of the group `swe_aem.none`."""
    name = f"kit_{abs(hash(request.node.name))}"
    site = tmp_path / "site"
    (site / name).mkdir(parents=True)
    (site / name / "__init__.py").write_text("from .deeper import two\n\ndef one(): return 1\n")
    (site / name / "deeper.py").write_text("def two(): return 2\n")
    for dist, version, lines in (
        ("kit", "1.2", f"one = {name}:one\nceil = {name}:one\ntwice = {name}:one\n"),
        ("other", "3.0", f"twice = {name}:two\n"),
    ):
        info = site / f"{dist}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[swe_aem.none]\n{lines}")
        (info / "top_level.txt").write_text(f"{name}\n" if dist == "kit" else "")
        (info / "RECORD").write_text("")
    monkeypatch.syspath_prepend(site)
    metadata.FastPath.__new__.cache_clear()  # pyright: ignore
    return site / name


def test_a_built_in_is_imported_by_its_name_and_has_no_identity(point: ExtensionPoint[Any]) -> None:
    found = point.find("ceil")
    assert found.value(1.5) == 2
    assert found.identity == ""
    assert point.names == ("parent", "ceil")


def test_entry_points_are_not_looked_up_for_what_is_built_in(
    point: ExtensionPoint[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "entry_points", lambda **group: pytest.fail("looked up"))
    point.check("ceil")
    assert point.make("ceil")(1.5) == 2


@pytest.mark.parametrize(
    ("reference", "argument", "result"),
    [("own.py:plain", 1, 2), ("./own.py:plain", 1, 2), ("own.py:Outer.inner", 1, -1)],
)
def test_an_object_of_a_file(point: ExtensionPoint[Any], own: Path, reference: str, argument: int, result: int) -> None:
    point.check(reference)
    assert point.find(reference).value(argument) == result


def test_a_file_is_executed_once_and_again_as_a_module_of_its_own_elsewhere(
    point: ExtensionPoint[Any], own: Path
) -> None:
    assert point.find("own.py:Checked").value is type(point.find("./own.py:made").value)
    (own / "deep").mkdir()
    (own / "deep" / "own.py").write_text("plain = 5\n")
    assert point.find("deep/own.py:plain").value == 5


def test_what_is_recorded_changes_with_the_file_and_with_nothing_else(point: ExtensionPoint[Any], own: Path) -> None:
    before = point.find("own.py:plain").identity
    assert before.startswith("sha256:")
    assert identity_of("own.py:Plain") == before
    (own / "copy.py").write_text(OWN)
    assert identity_of("copy.py:plain") == before
    (own / "own.py").write_text(OWN + "\n")
    assert identity_of("own.py:plain") != before


def test_a_file_that_has_changed_is_executed_again_so_that_what_is_recorded_is_what_runs(
    point: ExtensionPoint[Any], own: Path
) -> None:
    assert point.find("own.py:plain").value(1) == 2
    (own / "own.py").write_text(OWN.replace("value + 1", "value + 5"))  # as long as before, and within a second
    found = point.find("own.py:plain")
    assert found.value(1) == 6
    assert found.identity == identity_of("own.py:plain")


def test_functions_that_differ_in_what_they_hold_have_different_identities(point: ExtensionPoint[Any]) -> None:
    def paying(amount: float, log: list[str]) -> Any:
        def pay() -> float:
            log.append("paid")
            return amount

        return pay

    class Payer:
        def __init__(self, amount: float) -> None:
            self.amount = amount

        def pay(self) -> float:
            return self.amount

    def with_default(amount: float) -> Any:
        return lambda amount=amount: amount

    def identity(value: Any) -> str:
        return point.find(point.add(value)).identity

    for make in (lambda amount: paying(amount, []), lambda amount: Payer(amount).pay, with_default):
        assert identity(make(0.5)) == identity(make(0.5))
        assert identity(make(0.5)) != identity(make(0.7))
    used = paying(0.5, [])
    before = identity(used)
    used()
    assert identity(used) == before


def test_an_entry_point_is_recorded_with_its_distribution_and_its_whole_package(
    point: ExtensionPoint[Any], installed: Path
) -> None:
    assert point.names == ("parent", "ceil", "one", "twice")
    found = point.find("one")
    assert found.value() == 1
    assert found.identity.startswith("kit 1.2, sha256:")
    assert identity_of(f"{installed.name}.deeper:two") == found.identity
    (installed / "deeper.py").write_text("def two(): return 3\n")
    assert identity_of(f"{installed.name}:one") != found.identity


def test_a_stored_name_need_not_be_installed(point: ExtensionPoint[Any]) -> None:
    with stored_names():
        point.check("uninstalled")
    with pytest.raises(UserError, match="no reward 'uninstalled'"):
        point.check("uninstalled")
    with stored_names(), pytest.raises(UserError):
        point.find("uninstalled")


def test_an_entry_point_s_distribution_is_recorded_where_nothing_else_knows_it(
    point: ExtensionPoint[Any], installed: Path
) -> None:
    """As of a package that was installed in place: its files are not among those of the distribution."""
    (installed.parent / "kit-1.2.dist-info" / "top_level.txt").write_text("")
    assert "kit" not in str(metadata.packages_distributions().get(installed.name))
    assert point.find("one").identity.startswith("kit 1.2, sha256:")


def test_a_built_in_keeps_its_name_and_a_name_declared_twice_is_refused(
    point: ExtensionPoint[Any], installed: Path
) -> None:
    assert point.find("ceil").value(0.5) == 1
    with pytest.raises(UserError, match=r"twice is declared more than once: .*kit 1.2, .*other 3.0"):
        point.find("twice")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cell", r"no reward 'cell' \(did you mean ceil\?\); choose one of parent, ceil, package.module:object"),
        ("own.py", "say which object of the file, as in own.py:NAME"),
        ("own.py:", "'' is no name of a Python object"),
        ("own.py:f(1)", "is no name of a Python object"),
        ("own.py:chekced", r"own.py has no chekced \(did you mean Checked\?\)"),
        ("absent.py:plain", r"there is no file absent.py \(looked for /"),
        ("absent_module:plain", "there is no module absent_module; install its package"),
        ("json.absent:plain", "there is no module json.absent"),
        ("json:absent", "json has no absent"),
        ("python:lost", "was an object of the process that began this run"),
    ],
)
def test_a_name_that_stands_for_nothing_is_told_with_what_to_do(
    point: ExtensionPoint[Any], own: Path, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        point.find(name)


@pytest.mark.parametrize(
    ("text", "error"),
    [("import module_that_is_absent\n", ModuleNotFoundError), ("1 / 0\n", ZeroDivisionError), ("def\n", SyntaxError)],
)
def test_an_error_of_the_users_code_is_its_own_and_is_met_again(
    point: ExtensionPoint[Any], own: Path, text: str, error: type[Exception]
) -> None:
    (own / "broken.py").write_text(text)
    for _ in range(2):
        with pytest.raises(error):
            point.find("broken.py:plain")


def test_a_check_imports_nothing(point: ExtensionPoint[Any], own: Path) -> None:
    (own / "broken.py").write_text("1 / 0\n")
    point.check("broken.py:plain")
    point.check("absent.py:plain")


def test_settings_reach_a_class_and_are_checked(point: ExtensionPoint[Any], own: Path) -> None:
    made = point.make({"type": "own.py:Plain", "step": 3})
    assert (made.step, made.power) == (3, 2)
    assert point.make("own.py:Plain").step == 1
    assert point.make({"type": "own.py:Checked", "step": 4}).step == 4
    assert point.make("own.py:made").step == 7
    assert point.make("own.py:plain")(1) == 2


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"type": "own.py:Plain", "stop": 3}, "its settings do not fit: .*stop"),
        ({"type": "own.py:Checked", "stop": 3}, "reward own.py:Checked: .*stop"),
        ({"type": "own.py:Checked", "step": "much"}, "reward own.py:Checked: step"),
        ({"type": "own.py:plain", "step": 3}, "takes no settings, but step are given"),
        ({"step": 3}, "needs type: one of parent, ceil"),
    ],
)
def test_settings_that_do_not_fit_are_told(
    point: ExtensionPoint[Any], own: Path, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        point.make(setting)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("made", "reward own.py:made is Checked, which cannot be called: write a function NAME.a, b., or a class with"),
        ("plain", "reward own.py:plain is called with a and b: too many positional arguments; write a function"),
        ("later", "reward own.py:later is asynchronous: write def in the place of async def"),
        ("Late", "reward own.py:Late is asynchronous"),
    ],
)
def test_what_cannot_be_called_as_it_will_be_is_told(
    point: ExtensionPoint[Any], own: Path, name: str, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        point.function(f"own.py:{name}", "a", "b")
    assert point.function("own.py:plain", "a")(2) == 3
    assert point.function("ceil", "number")(0.5) == 1


def test_a_module_of_the_working_directory_is_named_by_its_file(
    point: ExtensionPoint[Any], own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on the command line, where Python does not look into the working directory."""
    (own / "beside.py").write_text(OWN)
    monkeypatch.syspath_prepend(own)
    import beside  # pyright: ignore[reportMissingImports]

    assert point.add(beside.plain) == "beside.py:plain"
    monkeypatch.chdir("/")
    assert point.add(beside.plain) == "beside:plain"


def test_objects_of_this_process_get_names(point: ExtensionPoint[Any], own: Path) -> None:
    assert point.setting_of(in_this_module) == f"{__name__}:in_this_module"
    assert point.setting_of(Checked(step=3)) == {"type": f"{__name__}:Checked", "step": 3}
    assert point.setting_of("ceil") == "ceil"
    from_file = point.find("own.py:plain").value
    assert point.setting_of(from_file) == "own.py:plain"

    def local(value: int) -> int:
        return value * 2

    name = point.add(local)
    assert name.startswith("python:")
    assert point.find(name).value(2) == 4
    assert point.find(name).identity.startswith("sha256:")
    assert point.make(name) is local


def test_an_object_without_source_is_refused(point: ExtensionPoint[Any]) -> None:
    with pytest.raises(UserError, match="define it in a file"):
        point.add(eval("lambda value: value"))


def test_the_function_of_a_script_is_named_by_its_file(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from swe_aem.extensions import ExtensionPoint\n"
        "def mine(): return 5\n"
        "if __name__ == '__main__':\n"
        "    print(ExtensionPoint('reward', group='swe_aem.none', builtin={}).add(mine))\n"
    )
    told = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True).stdout.strip()
    assert told == f"{script}:mine"


def test_importing_it_loads_neither_pydantic_nor_torch() -> None:
    code = "import sys, swe_aem.extensions; assert not {'pydantic', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
