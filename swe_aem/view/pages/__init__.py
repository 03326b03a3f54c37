"""Every kind of page: one module each, with a row here."""

from swe_aem.view.pages import groups, matrix, run, runs, trajectories
from swe_aem.view.site import Page

PAGES = (
    Page("runs", "/", runs.show),
    Page("run", "/{run}", run.show),
    Page("trajectories", "/{run}/trajectories", trajectories.show),
    Page("groups", "/{run}/groups", groups.show),
    Page("matrix", "/{run}/matrix", matrix.show),
)
"""All pages. A path that comes first wins."""
