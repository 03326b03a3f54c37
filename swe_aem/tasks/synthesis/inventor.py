"""`invent`: a function that nobody wrote. Its names are random syllables and its lines follow a few common patterns.

Expressions have types, so most of what is invented runs: whole numbers, texts, lists of numbers, lists of words and
truth values. `inventions.py` runs them and says which are of use.
"""

import keyword
import random
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

INT, STR, LIST, WORDS, BOOL = "int", "str", "list", "words", "bool"
_ARGUMENTS = (
    (LIST,), (LIST,), (STR,), (STR,), (INT,), (WORDS,), (INT, INT), (LIST, INT), (STR, INT), (WORDS, INT), (STR, STR),
    (LIST, LIST), (INT, INT, INT),
)  # fmt: skip
_RESULTS = (INT, INT, INT, STR, LIST, BOOL, WORDS)
_ELEMENT = {LIST: INT, STR: STR, WORDS: STR}
"""The type of what a loop over a value gives."""
_COMMON = (
    "values", "items", "text", "word", "words", "number", "total", "count", "result", "index", "low", "high",
    "first", "second", "left", "right", "size", "width", "limit", "start", "end", "rows", "row", "key", "names",
    "letters", "price", "rate", "steps", "step", "found", "parts", "part", "best", "last", "length", "offset",
    "amount", "score", "level", "value", "item", "letter", "n", "a", "b", "x", "y", "i", "k", "seen", "ordered",
    "middle", "rest",
)  # fmt: skip
"""Names as people choose them; about half of all variables have one."""
_ONSETS = (
    *"bcdfghjklmnprstvwz", "br", "ch", "cl", "cr", "dr", "fl", "gr", "pl", "pr", "sh", "sk", "sl", "sp", "st", "str",
    "th", "tr", "tw", "qu", "", "",
)  # fmt: skip
_VOWELS = (*"aeiouaeioy", "ea", "ou", "ai")
_CODAS = (*"nrtslmdpx", "ng", "st", "nt", "rt", "ll", "ld", "rm", "ed", "er", "", "", "", "")
"""A syllable is one of each."""
_NUMBERS = (0, 0, 1, 1, 1, 2, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 20, 24, 26, 30, 50, 60, 100)
_MARKS = ("", " ", "-", ",", "0", "1", "~", ":", ".", "(", "[", "]", "+", "*", "#", "_")
_RESERVED = {*keyword.kwlist, "set", "len", "str", "int", "max", "min", "abs", "sum", "zip"}


@dataclass(frozen=True)
class Invented:
    """A function that was invented and has not run yet."""

    name: str
    arguments: tuple[str, ...]
    """Their types."""
    text: str


def invent(dice: random.Random, avoid: Collection[str] = ()) -> Invented:
    """A function in which no name is one of `avoid`."""
    return _Inventor(dice, avoid).function()


def random_value(dice: random.Random, kind: str, avoid: Collection[str] = ()) -> Any:
    """A value for an argument of that type, without a word of `avoid`."""
    if kind == INT:
        return dice.choice((0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, 30, -1, -3))
    if kind == STR:
        one, two = _syllables(dice, avoid), _syllables(dice, avoid)
        return dice.choice((one, one[:2], f"{one} {two}", "", one.title(), "a-b", "10"))
    if kind == LIST:
        lowest = -3 if dice.random() < 0.2 else 0
        return [dice.randint(lowest, 9) for _ in range(dice.randint(0, 4))]
    return [_syllables(dice, avoid) for _ in range(dice.randint(0, 3))]


def _syllables(dice: random.Random, avoid: Collection[str]) -> str:
    """A word of one to three syllables, 3 to 11 letters, that is not in `avoid`."""
    while True:
        count = dice.choice((1, 1, 2, 2, 2, 3))
        word = "".join(dice.choice(_ONSETS) + dice.choice(_VOWELS) + dice.choice(_CODAS) for _ in range(count))
        if 2 < len(word) < 12 and word not in avoid:
            return word


class _Inventor:
    """Writes one function. Below `expression`, each method gives one of its type; `deep` counts how far inside."""

    def __init__(self, dice: random.Random, avoid: Collection[str]) -> None:
        self.dice = dice
        self.unusable = {*_RESERVED, *avoid}
        self.variables: dict[str, str] = {}
        """Types by name, of what may be read."""
        self.lines: list[str] = []
        self.outside: set[str] = set()
        """The variables that the loop did not make."""

    def function(self) -> Invented:
        dice = self.dice
        name, kinds = self._function_name(), dice.choice(_ARGUMENTS)
        arguments = [self._declare(self._new_name(), kind) for kind in kinds]
        self._put(0, f"def {name}({', '.join(arguments)}):")
        result = dice.choice(_RESULTS)
        self._maybe(0.3, lambda: self._guard(result))
        self._maybe(0.35, self._assignment)
        form = dice.random()
        if form < 0.45:
            self._loop(result)
        elif form < 0.65:
            self._search(result)
        else:
            self._maybe(0.5, lambda: self._guard(result))
            self._maybe(0.6, self._assignment)
            choice = f" if {self.truth()} else {self.expression(result)}" if dice.random() < 0.3 else ""
            self._put(1, f"return {self.expression(result)}{choice}")
        return Invented(name, kinds, "\n".join(self.lines) + "\n")

    def _function_name(self) -> str:
        while True:
            words = [
                _syllables(self.dice, self.unusable) if self.dice.random() < 0.7 else self.dice.choice(_COMMON)
                for _ in range(self.dice.choice((1, 1, 2, 2, 3)))
            ]
            if (name := "_".join(words)) not in self.unusable and name not in _COMMON and len(name) > 3:
                self.unusable.add(name)
                return name

    def _new_name(self) -> str:
        while True:
            common = self.dice.random() < 0.55
            name = self.dice.choice(_COMMON) if common else _syllables(self.dice, self.unusable)
            if name not in self.unusable:
                self.unusable.add(name)
                return name

    def _declare(self, name: str, kind: str) -> str:
        self.variables[name] = kind
        return name

    def _put(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def _maybe(self, share: float, write: Callable[[], None]) -> None:
        if self.dice.random() < share:
            write()

    def _some(self, *kinds: str) -> str | None:
        """A variable of one of the types; None if there is none."""
        kind = self.dice.choice(kinds)
        known = [name for name, its in self.variables.items() if its == kind]
        return self.dice.choice(known) if known else None

    def _first(self, forms: Sequence[Callable[[], str | None]], otherwise: Callable[[], str]) -> str:
        """One of the forms by chance, and `otherwise` where there is no variable for it."""
        return self.dice.choice(forms)() or otherwise()

    # statements

    def _guard(self, result: str) -> None:
        self._put(1, f"if {self.truth()}:")
        self._put(2, f"return {self._plain(result)}")

    def _plain(self, result: str) -> str:
        """What is often returned early, or when nothing was found."""
        dice = self.dice
        if result == BOOL or dice.random() < 0.5:
            usual = {BOOL: ("True", "False"), INT: ("-1", "0", "0", "1"), STR: ('""', self.quoted())}
            known = self._some(result) if result != BOOL and dice.random() < 0.4 else None
            return known or dice.choice(usual.get(result, ("[]",)))
        return self.expression(result)

    def _assignment(self) -> None:
        kind = self.dice.choice((INT, INT, STR, LIST))
        value = self.expression(kind)
        self._put(1, f"{self._declare(self._new_name(), kind)} = {value}")

    def _loop(self, result: str) -> None:
        """A variable that is built up in a loop, and what is returned."""
        dice = self.dice
        kind = dice.choice((INT, LIST)) if result == BOOL else result
        initial = {INT: dice.choice(("0", "0", "1", self.number())), STR: '""'}.get(kind, "[]")
        built = self._new_name()
        if dice.random() < 0.15:
            self._put(1, f"{built}, {self._declare(self._new_name(), INT)} = {initial}, {self.number()}")
        else:
            self._put(1, f"{built} = {initial}")
        counter = self._loop_head()
        inside = [name for name in self.variables if name not in self.outside]
        self._declare(built, kind)
        self._loop_body(built, kind, result, ends=counter is None)
        if counter:
            self._count_down(counter)
        for name in inside:
            del self.variables[name]
        simple = kind == result and dice.random() < 0.6
        self._put(1, f"return {built if simple else self.expression(result)}")

    def _search(self, result: str) -> None:
        """A loop that returns when something is found, and what is returned when nothing is."""
        counter = self._loop_head()
        inside = [name for name in self.variables if name not in self.outside]
        self._put(2, f"if {self.truth(of=inside)}:")
        known = [name for name in inside if self.variables[name] == result]
        self._put(3, f"return {self.dice.choice(known) if known and self.dice.random() < 0.6 else self._plain(result)}")
        if counter:
            self._count_down(counter)
        for name in inside:
            del self.variables[name]
        self._put(1, f"return {self._plain(result)}")

    def _count_down(self, counter: str) -> None:
        self._put(2, f"{counter} = {counter} {self.dice.choice(('// 2', '// 10', '- 1', '// 3'))}")

    def _loop_head(self) -> str | None:
        """The line of the loop; the variable that it counts down, if it is a `while`."""
        self.outside = set(self.variables)
        dice = self.dice
        form = dice.choice((self._for_each, self._for_each, self._for_index, self._for_pairs, self._for_split))
        number = self._some(INT)
        if number and dice.random() < 0.15:
            self._put(1, f"while {number} {dice.choice(('> 0', '> 1', '>= 1', '!= 0'))}:")
            return number
        if not form():
            end = number or self.number()
            name = self._declare(self._new_name(), INT) if dice.random() < 0.7 else "_"
            bounds = dice.choice((end, f"1, {end}", f"2, {end}", f"1, {end} + 1", self.number()))
            self._put(1, f"for {name} in range({bounds}):")
        return None

    def _for_each(self) -> bool:
        if source := self._some(LIST, STR, WORDS):
            part = self.dice.choice(("", "", "[1:]", "[::-1]"))
            self._put(1, f"for {self._declare(self._new_name(), _ELEMENT[self.variables[source]])} in {source}{part}:")
        return source is not None

    def _for_index(self) -> bool:
        if source := self._some(LIST, STR, WORDS):
            size = f"len({source})"
            bounds = self.dice.choice((size, f"1, {size}", f"0, {size}, 2", f"{size} - 1"))
            self._put(1, f"for {self._declare(self._new_name(), INT)} in range({bounds}):")
        return source is not None

    def _for_pairs(self) -> bool:
        """Over two lists, or over places and elements."""
        lists = [name for name, kind in self.variables.items() if kind == LIST]
        if len(lists) > 1:
            one, two = self.dice.sample(lists, 2)
            first, second = (self._declare(self._new_name(), INT) for _ in range(2))
            self._put(1, f"for {first}, {second} in zip({one}, {two}):")
        elif source := self._some(LIST, STR, WORDS):
            element = _ELEMENT[self.variables[source]]
            first, second = self._declare(self._new_name(), INT), self._declare(self._new_name(), element)
            self._put(1, f"for {first}, {second} in enumerate({source}):")
        else:
            return False
        return True

    def _for_split(self) -> bool:
        if source := self._some(STR):
            how = self.dice.choice(("split", "split", "lower", "upper"))
            self._put(1, f"for {self._declare(self._new_name(), STR)} in {source}.{how}():")
        return source is not None

    def _loop_body(self, built: str, kind: str, result: str, *, ends: bool) -> None:
        dice, form = self.dice, self.dice.randrange(5)
        if form < 2:
            self._put(2, f"if {self.truth()}:")
            self._update(3, built, kind)
            if form:
                self._put(2, "else:" if dice.random() < 0.6 else f"elif {self.truth()}:")
                self._update(3, built, kind)
        else:
            if form == 2 and ends:
                self._put(2, f"if {self.truth()}:")
                self._put(3, dice.choice(("break", "continue", f"return {self.expression(result)}")))
            self._update(2, built, kind)

    def _update(self, depth: int, built: str, kind: str) -> None:
        dice = self.dice
        if kind == INT:
            sign, value = dice.choice("+-*++"), self.whole(1)
            short = dice.random() < 0.25
            self._put(depth, f"{built} {sign}= {value}" if short else f"{built} = {built} {sign} {value}")
        elif kind == STR:
            value = self.text(1)
            self._put(depth, f"{built} " + dice.choice((f"= {built} + {value}", f"= {value} + {built}", f"+= {value}")))
        elif kind == LIST and dice.random() < 0.2:
            self._put(depth, f"{built} = {built} + {self.numbers(1)}")
        else:
            self._put(depth, f"{built}.append({self.expression(_ELEMENT[kind])})")

    # expressions

    def expression(self, kind: str) -> str:
        return {INT: self.whole, STR: self.text, LIST: self.numbers, BOOL: self.truth, WORDS: self.words}[kind]()

    def number(self) -> str:
        return str(self.dice.choice(_NUMBERS))

    def quoted(self) -> str:
        word = _syllables(self.dice, self.unusable)
        letters = "".join(self.dice.sample("abcdefghijklmnopqrstuvwxyz", self.dice.randint(1, 2)))
        return f'"{self.dice.choice((*_MARKS, word, word[:2], word[:1].upper(), letters))}"'

    def words(self) -> str:
        return self._some(WORDS) or "[]"

    def whole(self, deep: int = 0) -> str:
        dice, known = self.dice, self._some(INT)
        if deep > 1 or dice.random() < 0.35:
            return known if known and dice.random() < 0.75 else self.number()

        def inner() -> str:
            return self.whole(deep + 1)

        one, text, at = self._some(LIST), self._some(STR), self._some(INT)
        sized = self._some(LIST, STR, WORDS)
        forms: list[Callable[[], str | None]] = [
            *[lambda: f"{inner()} {dice.choice('+-*+-')} {inner()}"] * 5,
            lambda: f"{self.whole(2)} {dice.choice(('//', '%'))} {dice.choice(('2', '3', '4', '10', '7'))}",
            lambda: f"len({sized})" if sized else None,
            lambda: f"{one}[{dice.choice(('0', '-1', '1', '-2', at or '0'))}]" if one else None,
            lambda: f"{dice.choice(('max', 'min'))}({inner()}, {inner()})",
            lambda: f"abs({inner()})",
            lambda: f"{dice.choice(('sum', 'max', 'min', 'len'))}({one})" if one else None,
            lambda: f"({inner()} {dice.choice('+-*')} {inner()}) {dice.choice('*%')} {dice.choice('23457')}",
            lambda: f"{text}.count({self.quoted()})" if text else None,
            lambda: f"{one}[{at} {dice.choice('+-')} 1]" if one and at else None,
        ]
        return self._first(forms, inner)

    def truth(self, deep: int = 0, of: Sequence[str] = ()) -> str:
        """Something true or false; often of one of the variables `of`."""
        dice = self.dice
        if of and dice.random() < 0.7:
            return self._about(dice.choice(of))

        def compare() -> str:
            left, right = (self._some(INT) if dice.random() < 0.6 else None) or self.whole(1), self.whole(1)
            if left.isdecimal() or left == right:
                left = f"len({some})" if (some := self._some(LIST, STR, WORDS)) else left
            return f"{left} {dice.choice(('<', '<=', '>', '>=', '==', '!='))} {right}"

        if deep:
            return compare()
        one, text, sized = self._some(LIST), self._some(STR), self._some(LIST, STR, WORDS)
        forms: list[Callable[[], str | None]] = [
            *[compare] * 6,
            lambda: f"{self.whole(2)} {dice.choice(('in', 'not in'))} {one}" if one else None,
            lambda: f"{text} {dice.choice(('==', '!=', '<', '>'))} {self.quoted()}" if text else None,
            lambda: f"{dice.choice(('not ', ''))}{sized}" if sized else None,
            lambda: f"{self.truth(1)} {dice.choice(('and', 'or'))} {self.truth(1)}",
            lambda: f"{text} in {self.quoted()}" if text else None,
            lambda: f"{self.whole(2)} % {dice.choice('2345')} {dice.choice(('==', '!='))} {dice.choice('01')}",
        ]
        forms += [lambda: self._about(some) if (some := self._some(INT, STR)) else None] * 5
        return self._first(forms, compare)

    def _about(self, name: str) -> str:
        """A condition as people write it: a variable against another one or a small number."""
        dice, kind = self.dice, self.variables[name]
        others = [other for other, its in self.variables.items() if its == kind and other != name]
        if kind == STR:
            return f"{name} {dice.choice(('==', '==', '!='))} {dice.choice(others) if others else self.quoted()}"
        if kind != INT:
            return name
        other = dice.choice(others) if others and dice.random() < 0.6 else dice.choice("00112")
        compared = f"{name} {dice.choice(('<', '<=', '>', '>=', '==', '!='))} {other}"
        divided = f"{name} % {dice.choice('2235') if other in '012' else other} == {dice.choice('0001')}"
        values = self._some(LIST)
        looked_up = [f"{values}[{name}] {dice.choice(('==', '<', '>', '!='))} {other}"] if values else []
        return dice.choice((*[compared] * 4, divided, *looked_up))

    def text(self, deep: int = 0) -> str:
        dice, known = self.dice, self._some(STR)

        def plain() -> str:
            return known if known and dice.random() < 0.8 else self.quoted()

        if deep > 1:
            return plain()
        end = self.whole(2)
        parts = ("1:", "0", "-1", ":2", "::-1", f": {end} - 1", f"{end}:")
        forms: list[Callable[[], str | None]] = [
            plain,
            plain,
            lambda: f"{self.text(deep + 1)} + {self.text(deep + 1)}",
            lambda: f"str({self.whole(deep + 1)})",
            lambda: f"{known}.{dice.choice(('upper', 'lower', 'strip', 'swapcase'))}()" if known else None,
            lambda: f"{known}[{dice.choice(parts)}]" if known else None,
            lambda: f"{self.quoted()} * {self.whole(2)}",
            lambda: f"{self.quoted()}.join({words})" if (words := self._some(WORDS)) else None,
        ]
        return self._first(forms, plain)

    def numbers(self, deep: int = 0) -> str:
        dice, known = self.dice, self._some(LIST)
        if not known:
            return f"[{', '.join(self.whole(2) for _ in range(dice.randint(1, 3)))}]"
        if deep > 1:
            return known
        end = self.whole(2)
        forms: list[Callable[[], str | None]] = [
            lambda: known,
            lambda: known,
            lambda: f"{known}[{dice.choice(('1:', '::-1', ':-1', f': {end}', f'{end}:', '::2'))}]",
            lambda: f"sorted({known})",
            lambda: f"{self.numbers(deep + 1)} + {self.numbers(deep + 1)}",
            lambda: f"{self.numbers(2)} + [{self.whole(1)}]",
            lambda: f"[{self.whole(1)}, {self.whole(1)}]",
        ]
        return self._first(forms, lambda: known)
