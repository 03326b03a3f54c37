"""How the names that a runner has for its tests become those that a log parser reads: what FAIL_TO_PASS of rows holds.

swebench's parsers split lines at blanks, and some rewrite what they find. A runner's record has whole names.
"""

import re

_OPTION = re.compile(r"(.*?)\[(.*)\]")
_COLOUR = re.compile(r"\[(\d+)m")
_CONTROLS = str.maketrans("", "", "".join(map(chr, range(1, 32))))


def first_word(test: str) -> str | None:
    """The id of a test up to its first blank, as in `PASSED tests/a.py::b[x`."""
    return next(iter(test.split()), None)


def first_word_of_matplotlib(test: str) -> str | None:
    """`first_word`, with numbers in place of matplotlib's mouse buttons."""
    return first_word(test.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3"))


def with_short_option(test: str) -> str | None:
    """`first_word`, with a parameter that is a path cut to its last part."""
    word = first_word(test)
    found = _OPTION.search(word) if word else None
    if found is None:
        return word
    main, option = found.groups()
    if option.startswith("/") and not option.startswith("//") and "*" not in option:
        option = "/" + option.split("/")[-1]
    return f"{main}[{option}]"


def whole_line(test: str) -> str | None:
    """The whole id, without colours and control characters, and with one blank where there are several."""
    return " ".join(_COLOUR.sub("", test).translate(_CONTROLS).split()) or None


def one_word(test: str) -> str | None:
    """The id, if it has no blank: in a line of pytest's verbose output the status has to follow."""
    return test if len(test.split()) == 1 else None


def last_word(test: str) -> str | None:
    """The last word before ` - `."""
    return next(iter(test.split(" - ")[0].split()[::-1]), None)


def last_line(description: str) -> str | None:
    """The last line of unittest's description of a test, which its result stands behind: `test_a (tests.T.test_a)`, or
    the first line of the test's documentation."""
    return description.split("\n")[-1].strip() or None
