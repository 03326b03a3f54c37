"""`Listed`: which trajectories a page lists, how sorted and which page of them, as a URL's query says it.

All of it is in the query, so that a link shows the same list to whoever follows it. Several values of one condition
stand in one parameter, with commas between them, and bytes that are not UTF-8 as stores write them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from swe_aem.core.base import Frozen
from swe_aem.store.surrogates import escape, unescape
from swe_aem.view.index import FacetName, Filter, Order, SortColumn

SIZE = 50
"""Rows of a page."""
SIZES = (25, 50, 100, 250)

LISTS = {
    "outcome": "outcomes",
    "task": "tasks",
    "tool": "tools",
    "label": "labels",
    "agent": "agents",
    "model": "models",
    "stop": "stops",
    "cause": "causes",
}
"""Parameters that hold several values, and the conditions that they are."""
_NAMES = {"q": "text", "in": "text_in", **LISTS}
_COLUMNS: dict[str, SortColumn] = {column: column for column in get_args(SortColumn)}
_PARAMETERS = {condition: name for name, condition in _NAMES.items()}


class Listed(Frozen):
    """One page of a list."""

    filter: Filter = Filter()
    order: Order = Order()
    number: int = 1
    """Number of the page, from 1."""
    size: int = SIZE
    problems: tuple[str, ...] = ()
    """Parameters that could not be understood and are left out, one sentence each."""

    def query(self) -> dict[str, str]:
        """The parameters of this page; what is as usual is left out."""
        found = {_PARAMETERS.get(name, name): _written(value) for name, value in _conditions(self.filter)}
        if self.order != Order():
            found |= {"sort": self.order.by, "way": "down" if self.order.descending else "up"}
        if self.size != SIZE:
            found["size"] = str(self.size)
        if self.number != 1:
            found["page"] = str(self.number)
        return found

    def at(self, number: int) -> dict[str, str]:
        """The parameters of another page of the list."""
        return self.model_copy(update={"number": number}).query()

    def sorted_by(self, column: SortColumn) -> dict[str, str]:
        """The parameters of the list sorted by a column: numbers from the largest, and the other way round if it is
        sorted by it already."""
        usual = column not in ("task", "outcome", "agent", "model", "stop")
        descending = not self.order.descending if self.order.by == column else usual
        order = Order(by=column, descending=descending)
        return self.model_copy(update={"order": order, "number": 1}).query()

    def chosen(self, name: str) -> tuple[str, ...]:
        """The values of a parameter in `LISTS`; a step is the two ends of its range."""
        if name == "step":
            same = self.filter.min_step is not None and self.filter.min_step == self.filter.max_step
            return (str(self.filter.min_step),) if same else ()
        return tuple(map(str, getattr(self.filter, LISTS[name])))

    def switched(self, name: FacetName, value: str) -> dict[str, str]:
        """The parameters of the list with a value of a facet added, or taken out if it is there."""
        there = self.chosen(name)
        if name == "step":
            step = None if value in there else int(value)
            changes: dict[str, Any] = {"min_step": step, "max_step": step}
        else:
            changes = {LISTS[name]: tuple(one for one in there if one != value) if value in there else (*there, value)}
        return self.model_copy(update={"filter": self.filter.model_copy(update=changes), "number": 1}).query()

    def without(self, name: str) -> dict[str, str]:
        """The parameters of the list without one condition, by its parameter."""
        usual = Filter.model_fields[_NAMES.get(name, name)].default
        filter = self.filter.model_copy(update={_NAMES.get(name, name): usual})
        return self.model_copy(update={"filter": filter, "number": 1}).query()

    def conditions(self) -> dict[str, str]:
        """The conditions by their parameters."""
        return {_PARAMETERS.get(name, name): _written(value) for name, value in _conditions(self.filter)}


def listed(query: Mapping[str, str]) -> Listed:
    """What a query says. Empty parameters, which forms send, say nothing; those of other pages are not looked at."""
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, field in Filter.model_fields.items():
        given = unescape(query.get(parameter := _PARAMETERS.get(name, name), "").strip())
        if not given:
            continue
        annotation: Any = field.annotation
        try:
            values[name] = TypeAdapter(annotation).validate_python(_read(given, annotation))
        except ValidationError as error:
            problems.append(f"{parameter}={given} is left out: {error.errors()[0]['msg']}")
    return Listed(
        filter=Filter(**values),
        order=_order(query),
        number=_number(query.get("page"), 1),
        size=min(_number(query.get("size"), SIZE), max(SIZES)),
        problems=tuple(problems),
    )


def _conditions(filter: Filter) -> Iterator[tuple[str, Any]]:
    for name, field in Filter.model_fields.items():
        if (value := getattr(filter, name)) != field.default:
            yield name, value


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return escape(",".join(str(one).replace("%", "%25").replace(",", "%2C") for one in value))
    return escape(str(value))


def _read(text: str, annotation: Any) -> Any:
    if getattr(annotation, "__origin__", None) is tuple:
        return tuple(one.replace("%2C", ",").replace("%25", "%") for one in text.split(","))
    return text


def _order(query: Mapping[str, str]) -> Order:
    by = _COLUMNS.get(query.get("sort", ""))
    return Order() if by is None else Order(by=by, descending=query.get("way") != "up")


def _number(text: str | None, usual: int) -> int:
    return int(text) if text and text.isascii() and text.isdigit() and 0 < len(text) < 10 and int(text) else usual
