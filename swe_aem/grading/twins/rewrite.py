"""From test files and the names of tests in them to their twins."""

import ast
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from swe_aem.grading.twins.claims import Claim, claims_of, left_alone, normalised
from swe_aem.grading.twins.names import TestName, files_of, parse_name
from swe_aem.grading.twins.parameters import Renamed, tables, with_other_values
from swe_aem.grading.twins.source import Edit, Function, Source, Unsuitable


@dataclass(frozen=True)
class Rewritten:
    """Test files in which tests contradict themselves."""

    files: dict[str, bytes] = field(default_factory=dict)
    """Path to new content, of those that change."""
    names: dict[str, str] = field(default_factory=dict)
    """Each test that has a twin, and the twin's name: another one where pytest makes it of a literal that changed."""
    why_not: dict[str, str] = field(default_factory=dict)
    """Why each of the others has none."""


def rewrite(
    files: Mapping[str, bytes],
    tests: Sequence[str],
    *,
    about: Collection[str] = (),
    statement: str = "",
    keep_names: bool = False,
) -> Rewritten:
    """Change one assertion of each test, in place, so that no code passes the test and its twin.

    `files` are Python files by path. Assertions that mention a name in `about` are preferred. Code could tell a twin
    by an example of the problem `statement` that it changes: such tests are left as they are if others have a twin.
    `keep_names`: no twin may have another name than its test. A file keeps its lines.
    """
    return _Rewriter(files, frozenset(about), normalised(statement), keep_names=keep_names).rewrite(tests)


@dataclass
class _Chosen:
    """The tests that one function stands for."""

    path: str
    function: Function
    tests: list[tuple[str, TestName]] = field(default_factory=list)


class _Rewriter:
    def __init__(self, files: Mapping[str, bytes], about: frozenset[str], statement: str, *, keep_names: bool) -> None:
        self._sources: dict[str, Source] = {}
        self._unreadable: dict[str, str] = {}
        self._about = about
        self._statement = statement
        self._keep_names = keep_names
        for path, data in files.items():
            try:
                self._sources[path] = Source(data)
            except Unsuitable as error:
                self._unreadable[path] = str(error)

    def rewrite(self, tests: Sequence[str]) -> Rewritten:
        """The files, names and reasons for all tests."""
        why_not: dict[str, str] = {}
        names: dict[str, str] = {}
        edits: dict[str, dict[str, tuple[Edit, ...]]] = {}
        public: set[str] = set()
        for chosen in self._chosen(tests, why_not):
            try:
                claim, twins = self._contradict(chosen)
            except Unsuitable as error:
                why_not |= {test: str(error) for test, _ in chosen.tests}
                continue
            except (RecursionError, ValueError) as error:  # too deep an expression, too long a number
                why_not |= {test: f"its source is too much: {error}" for test, _ in chosen.tests}
                continue
            if claim.is_public(self._statement):
                public |= {test for test, _, _ in twins}
            for test, new, wanted in twins:
                names[test] = new
                edits.setdefault(chosen.path, {})[test] = wanted
        if public < names.keys():
            why_not |= dict.fromkeys(public, "the problem statement shows what it calls")
            names = {test: new for test, new in names.items() if test not in public}
            for wanted in edits.values():
                for test in public & wanted.keys():
                    del wanted[test]
        files: dict[str, bytes] = {}
        for path, wanted in ((path, wanted) for path, wanted in edits.items() if wanted):
            try:
                files[path] = self._sources[path].edited(edit for some in wanted.values() for edit in some)
            except Unsuitable as error:
                why_not |= dict.fromkeys(wanted, str(error))
                names = {test: new for test, new in names.items() if test not in wanted}
        return Rewritten(files, names, why_not)

    def _chosen(self, tests: Sequence[str], why_not: dict[str, str]) -> list[_Chosen]:
        """The functions behind the tests; for those that are not found, why not."""
        found: dict[tuple[str, int], _Chosen] = {}
        for test in tests:
            name = parse_name(test)
            if name is None:
                why_not[test] = "its name does not say where it is"
                continue
            try:
                path, function = self._find(name)
            except Unsuitable as error:
                why_not[test] = str(error)
                continue
            chosen = found.setdefault((path, function.lineno), _Chosen(path, function))
            chosen.tests.append((test, name))
        return list(found.values())

    def _find(self, name: TestName) -> tuple[str, Function]:
        paths = files_of(name, (*self._sources, *self._unreadable))
        found = [
            (path, function)
            for path in paths
            if path in self._sources and (function := _function(self._sources[path].tree, name)) is not None
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise Unsuitable("several test files have a test of that name")
        unreadable = [self._unreadable[path] for path in paths if path in self._unreadable]
        raise Unsuitable(unreadable[0] if unreadable else "it is not defined in a test file that can be changed")

    def _contradict(self, chosen: _Chosen) -> tuple[Claim, list[tuple[str, str, tuple[Edit, ...]]]]:
        """What is contradicted, and each test of a function with the name of its twin and the edits; raises
        `Unsuitable`."""
        source, function = self._sources[chosen.path], chosen.function
        why = left_alone(function)
        if why is not None:
            raise Unsuitable(why)
        claims = claims_of(source, function)
        claims.sort(
            key=lambda claim: (claim.is_public(self._statement), self._about.isdisjoint(claim.names), claim.kind)
        )
        for claim in claims:
            found = self._with_claim(source, chosen, claim)
            if found is not None:
                return claim, found
        raise Unsuitable("it has no assertion that can be contradicted for sure")

    def _with_claim(
        self, source: Source, chosen: _Chosen, claim: Claim
    ) -> list[tuple[str, str, tuple[Edit, ...]]] | None:
        if not claim.argument:
            return [(test, test, claim.edits) for test, _ in chosen.tests]
        if self._keep_names:
            return None
        found = tables(source, chosen.function)
        renamed = with_other_values(source, found, claim.argument) if found else None
        if renamed is None:
            return None
        twins = [_renamed(test, name, renamed) for test, name in chosen.tests]
        every = [twin for twin in twins if twin is not None]
        return every if len(every) == len(twins) else None


def _renamed(test: str, name: TestName, renamed: Renamed) -> tuple[str, str, tuple[Edit, ...]] | None:
    """A parametrized test with its twin's name and edits; None if its row has none."""
    if name.parameters is None:
        return None
    if not name.cut:
        ids = [name.parameters] if name.parameters in renamed.ids else []
    else:
        ids = [id_ for id_ in renamed.ids if id_.startswith(f"{name.parameters} ")]
    if not ids:
        return None
    new = {renamed.ids[id_].split(" ")[0] if name.cut else renamed.ids[id_] for id_ in ids}
    if len(new) != 1:
        return None
    head = test[: test.index("[") + 1]
    edits = tuple(edit for id_ in ids for edit in renamed.edits[id_])
    return test, f"{head}{new.pop()}{'' if name.cut else ']'}", edits


def _function(tree: ast.Module, name: TestName) -> Function | None:
    """The function of a test; a method may be its class's own or inherited from a class of the same file."""
    if not name.classes:
        return _only(tree.body, name.function)
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    top, *inner = name.classes
    place = classes.get(top)
    for part in inner:
        nested = {node.name: node for node in place.body if isinstance(node, ast.ClassDef)} if place else {}
        place = nested.get(part)
    seen: list[str] = []
    todo = [place] if place else []
    while todo:
        one = todo.pop(0)
        if one.name in seen:
            continue
        seen.append(one.name)
        found = _only(one.body, name.function)
        if found is not None:
            return found
        todo += [classes[base.id] for base in one.bases if isinstance(base, ast.Name) and base.id in classes]
    return None


def _only(body: Sequence[ast.stmt], name: str) -> Function | None:
    """The last function of that name: it is the one that Python keeps."""
    found = [node for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name]
    return found[-1] if found else None
