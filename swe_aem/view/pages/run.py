"""The first page of a run, by what it is."""

from swe_aem.view.found import Kind
from swe_aem.view.pages.evaluation import show_run
from swe_aem.view.pages.store import show as show_store
from swe_aem.view.pages.training import show as show_training
from swe_aem.view.site import Asked, Shown, Site


def show(site: Site, asked: Asked) -> Shown:
    """The page of the run's kind."""
    run = site.run(asked.values["run"])
    match run.kind:
        case Kind.TRAINING:
            return show_training(site, asked, run)
        case Kind.ROLLOUTS:
            return show_store(site, asked, run)
        case Kind.GRADES:
            return show_run(site, asked, run)
