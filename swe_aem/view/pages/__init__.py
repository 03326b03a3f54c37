"""Every kind of page: one module each, with a row here."""

from swe_aem.view.pages import runs
from swe_aem.view.site import Page

PAGES = (Page("runs", "/", runs.show),)
"""All pages. A path that comes first wins."""
