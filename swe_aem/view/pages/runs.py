"""The first page: every run below the directories that were named."""

from swe_aem.view.site import Asked, Shown, Site


def show(site: Site, asked: Asked) -> Shown:
    """A row per run."""
    return Shown(template="runs.html.jinja", title="Runs", values={"runs": site.runs()}, live=True)
