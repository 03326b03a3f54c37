"""One text of a trajectory as a whole, a piece of bounded size at a time."""

from swe_aem.view.site import Asked, NotThere, Shown, Site
from swe_aem.view.stored import crumbs, key_of, load_excerpt
from swe_aem.view.story.clip import changed, coloured
from swe_aem.view.story.places import text_at, turn_of

SIZE = 100_000
"""Characters of one page."""


def show(site: Site, asked: Asked) -> Shown:
    """A piece of the text that the query's `place` names, from the character that `from` says."""
    run = site.run(asked.values["run"])
    key = key_of(asked.values["task"], asked.values["sample"])
    place = asked.query.get("place", "")
    number = turn_of(place) or 1
    text = text_at(load_excerpt(site, run, key, range(number - 1, number)).trajectory, place)
    if text is None:
        raise NotThere(f"{key} has no text {place}")
    is_diff = place == "patch" or place.endswith(".change")
    start = start_of(asked.query.get("from", ""), len(text))

    def at(number: int) -> str:
        return asked.link("text", query={"place": place, "from": str(number)}, **asked.values)

    return Shown(
        template="text.html.jinja",
        title=place.replace("-", " ") if place else "text",
        crumbs=crumbs(site, asked, run, key),
        values={
            "pieces": (changed if is_diff else coloured)(text[start : start + SIZE]),
            "start": start,
            "end": min(start + SIZE, len(text)),
            "total": len(text),
            "unit": "characters",
            "note": "",
            "kind": "diff" if is_diff else "observation-whole",
            "earlier": at(start - SIZE) if start else "",
            "later": at(start + SIZE) if start + SIZE < len(text) else "",
            "last": at((len(text) - 1) // SIZE * SIZE) if len(text) > SIZE else "",
        },
    )


def start_of(asked: str, total: int) -> int:
    """Where the piece begins that a query asks for."""
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 16 else 0
    return min(number, max(total - 1, 0)) // SIZE * SIZE
