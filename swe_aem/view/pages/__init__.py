"""Every kind of page: one module each, with a row here."""

from swe_aem.view.pages import (
    compare,
    compare_runs,
    config,
    evaluation,
    failures,
    groups,
    log,
    matrix,
    run,
    runlog,
    runs,
    text,
    tokens,
    trajectories,
    trajectory,
)
from swe_aem.view.site import Page

PAGES = (
    Page("runs", "/", runs.show),
    Page("compare", "/compare", compare.show),
    Page("compare-runs", "/compare-runs", compare_runs.show),
    Page("run", "/{run}", run.show),
    Page("trajectories", "/{run}/trajectories", trajectories.show),
    Page("groups", "/{run}/groups", groups.show),
    Page("matrix", "/{run}/matrix", matrix.show),
    Page("trajectory", "/{run}/trajectory/{task}/{sample}", trajectory.show),
    Page("tokens", "/{run}/trajectory/{task}/{sample}/tokens", tokens.show),
    Page("text", "/{run}/trajectory/{task}/{sample}/text", text.show),
    Page("log", "/{run}/trajectory/{task}/{sample}/log", log.show),
    Page("config", "/{run}/config", config.show),
    Page("evaluation", "/{run}/evaluation", evaluation.show),
    Page("failures", "/{run}/failures", failures.show),
    Page("runlog", "/{run}/log", runlog.show),
)
"""All pages. A path that comes first wins."""
