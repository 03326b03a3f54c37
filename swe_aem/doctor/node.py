"""`node_problem`: what keeps a host from having a run's sandboxes."""

from functools import partial

from swe_aem.core.finding import Level
from swe_aem.doctor import host, sandboxes
from swe_aem.doctor.examine import examine
from swe_aem.doctor.finding import Check, Purpose

_EVERY = frozenset(Purpose)
_START_LIMIT_S = 120.0
"""A host that many agents join at once starts its first sandbox slowly."""


def node_problem(sandbox: str, *, limited: bool) -> str:
    """What fails on this host that sandboxes of a type need, in one line with the fix; empty if nothing does.

    `limited`: do the sandboxes have resource limits? Starts a sandbox if that needs no image; takes seconds.
    """
    findings = examine(Purpose.ROLLOUT, _checks(sandbox, limited=limited))
    return "; ".join(f"{one.check}: {one.found} (fix: {one.fix})" for one in findings if one.level is Level.FAIL)


def _checks(sandbox: str, *, limited: bool) -> list[Check]:
    checks = [Check("packages", host.packages, _EVERY), Check("git", host.git, _EVERY)]
    checks.append(Check("cache", host.disk, _EVERY))
    if sandbox == "docker":
        checks.append(Check("engine", sandboxes.engine, _EVERY))
    if sandbox == "bubblewrap":
        checks += [Check("launcher", sandboxes.launcher, _EVERY), Check("kernel", sandboxes.kernel, _EVERY)]
        if limited:
            checks.append(Check("control groups", sandboxes.control_groups, _EVERY))
        checks.append(Check("bubblewrap sandbox", partial(sandboxes.embedded, _START_LIMIT_S), _EVERY))
    return checks
