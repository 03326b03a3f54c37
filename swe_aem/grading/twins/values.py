"""Another literal in the place of one: of the same type, in the same lines, and if possible of the same length."""

import ast
import io
import re
import string
import tokenize
from collections.abc import Iterator

from swe_aem.core.python_source import parsed_expression
from swe_aem.grading.twins.source import Edit, Source

_CONSTRUCTORS = frozenset(
    ["set", "frozenset", "tuple", "list", "dict", "bytes", "bytearray", "str", "int", "float", "complex"]
)
_DATES = frozenset(["date", "datetime", "time", "timedelta", "array", "deque"])
"""Lower-case names of types, built in or not: other arguments make other values."""
_STRING_METHODS = frozenset(["strip", "lstrip", "rstrip", "encode", "decode", "split", "splitlines"])
_ESCAPE = re.compile(r"\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|N\{[^}]*\}|[0-7]{1,3}|.)", re.DOTALL)
_STRING = re.compile(r"(?P<prefix>[A-Za-z]*)(?P<quote>'''|\"\"\"|'|\")(?P<body>.*)(?P=quote)\Z", re.DOTALL)
_EMPTY = {ast.List: "[0]", ast.Tuple: "(0,)", ast.Dict: "{0: 0}"}


def is_literal(node: ast.expr) -> bool:
    """Does the expression consist of constants alone?"""
    return value_of(node) is not None


def value_of(node: ast.expr) -> tuple[object] | None:
    """The value of a literal, as a tuple of one; None for other expressions."""
    try:
        return (ast.literal_eval(node),)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def has_leaf(node: ast.expr) -> bool:
    """Is there a literal in the expression whose change changes the value?"""
    return next(_leaves(node), None) is not None


def other_value(source: Source, node: ast.expr) -> Edit | None:
    """The edit that gives an expression of literals and constructors another value; None if there is none."""
    leaves = list(_leaves(node))
    flags = [leaf for leaf in leaves if isinstance(leaf, ast.Constant) and isinstance(leaf.value, bool)]
    others = [leaf for leaf in leaves if leaf not in flags]
    for leaf in (*reversed(others), *reversed(flags)):
        edit = _other_leaf(source, leaf)
        if edit is not None and _differs(source, node, edit):
            return edit
    return None


def changed_value(source: Source, node: ast.expr, edit: Edit) -> tuple[object] | None:
    """The value of a literal after an edit in it, as a tuple of one."""
    start, end = source.span(node)
    data = source.data[start : edit.start] + edit.new + source.data[edit.end : end]
    try:
        return value_of(parsed_expression(b"(" + data + b"\n)").body)
    except (SyntaxError, ValueError):
        return None


def _differs(source: Source, node: ast.expr, edit: Edit) -> bool:
    old = value_of(node)
    if old is None:
        return True
    new = changed_value(source, node, edit)
    return new is not None and new != old and type(new[0]) is type(old[0])


def _leaves(node: ast.expr) -> Iterator[ast.expr]:
    """Parts that can be changed; those that make the most of a value come last."""
    match node:
        case ast.Constant(value=str() | bytes() | bool() | int() | float() | complex()):
            yield node
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() | complex())):
            yield node.operand
        case ast.List(elts=[]) | ast.Tuple(elts=[]) | ast.Dict(keys=[]):
            yield node
        case ast.List() | ast.Tuple() | ast.Set():
            for element in node.elts:
                yield from _leaves(element)
        case ast.Dict():
            for key in node.keys:
                if key is not None:
                    yield from _leaves(key)
            for value in node.values:
                yield from _leaves(value)
        case ast.Call() if _is_constructor(node.func):
            if not node.args and not node.keywords and isinstance(node.func, ast.Name) and node.func.id == "set":
                yield node
            for keyword in node.keywords:
                yield from _leaves(keyword.value)
            for argument in node.args:
                yield from _leaves(argument)
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str() | bytes()), attr="join"), args=[joined]):
            yield from _leaves(joined)
        case ast.Call(func=ast.Attribute(value=text, attr=method)) if method in _STRING_METHODS:
            yield from _leaves(text)
        case ast.Call(func=function, args=[text]) if called(function) in ("dedent", "cleandoc"):
            yield from _leaves(text)
        case _:
            return


def called(function: ast.expr) -> str:
    """The last part of the name of what is called; empty if it has none."""
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ""


def _is_constructor(function: ast.expr) -> bool:
    name = called(function)
    return name[:1].isupper() or name in _CONSTRUCTORS | _DATES


def _other_leaf(source: Source, leaf: ast.expr) -> Edit | None:
    start, end = source.span(leaf)
    text = source.text(leaf)
    new: str | None
    match leaf:
        case ast.Constant(value=bool()):
            new = "False" if leaf.value else "True"
        case ast.Constant(value=str() | bytes()):
            new = _other_string(text)
        case ast.Constant(value=int()):
            new = _other_integer(text)
        case ast.Constant():
            new = _other_float(text)
        case ast.Call():
            new = "{0}"
        case _:
            new = _EMPTY[type(leaf)] if "\n" not in text and "\r" not in text and "#" not in text else None
    return None if new is None else Edit(start, end, new.encode())


def _other_integer(text: str) -> str | None:
    """The last digit changed, so that dates and the like stay ones where that is easy."""
    if not text.isdigit():
        found = re.search(r"[0-9](?=[_A-Za-z]*\Z)", text)  # 0x1f, 1_000
        return None if found is None else text[: found.start()] + _other_digit(found[0]) + text[found.end() :]
    if text.endswith("0") and len(text) > 1:
        return _other_digit(text[0]) + text[1:] if text[0] > "1" else text[:-1] + "1"
    if text.endswith("1") and len(text) > 1:
        return text[:-1] + "0"
    return text[:-1] + _other_digit(text[-1])


def _other_float(text: str) -> str | None:
    mantissa = re.split("[eE]", text, maxsplit=1)[0]
    found = re.search("[1-9]", mantissa)
    if found is None:
        found = re.search("0", mantissa)
    return None if found is None else text[: found.start()] + _other_digit(found[0]) + text[found.end() :]


def _other_digit(digit: str) -> str:
    return str(int(digit) - 1) if digit > "1" else str(int(digit) + 1)


def _other_string(text: str) -> str | None:
    """One character changed, in the last part of the literal that has one to change."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(f"({text}\n)").readline))
    except (tokenize.TokenError, SyntaxError):
        return None
    lines = [0, *(found.end() for found in re.finditer("\n", f"({text}\n)"))]
    parts = [token for token in tokens if token.type == tokenize.STRING]
    for token in reversed(parts):
        new = _other_token(token.string)
        if new is not None:
            at = lines[token.start[0] - 1] + token.start[1] - 1
            return text[:at] + new + text[at + len(token.string) :]
    return None


def _other_token(token: str) -> str | None:
    found = _STRING.match(token)
    if found is None:
        return None
    body, start = found["body"], found.start("body")
    if not body:
        return f"{token[:start]}x{token[start:]}"
    masked = body
    if "r" not in found["prefix"].lower():
        masked = _ESCAPE.sub(lambda escape: "\0" * len(escape[0]), body)
    for wanted in (string.ascii_letters + string.digits, string.punctuation.translate({34: None, 39: None, 92: None})):
        at = max((masked.rfind(char) for char in wanted), default=-1)
        if at >= 0:
            return token[: start + at] + _other_character(body[at]) + token[start + at + 1 :]
    at = next((n for n in reversed(range(len(masked))) if masked[n] not in "\0\r\n'\""), -1)
    return None if at < 0 else f"{token[: start + at]}x{token[start + at + 1 :]}"


def _other_character(char: str) -> str:
    if char.isdigit():
        return _other_digit(char)
    if char.isalpha():
        return {"z": "y", "Z": "Y"}.get(char, chr(ord(char) + 1))
    return "-" if char != "-" else "+"
