"""Runs all checks, at the same time."""

import contextlib
import importlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import swe_aem.doctor.host as host
import swe_aem.doctor.network as network
import swe_aem.doctor.sandboxes as sandboxes
from swe_aem.core.finding import Finding, Level, fail
from swe_aem.doctor.finding import Check, Purpose

_EVERY = frozenset(Purpose)
_CONTAINERS = frozenset({Purpose.DOCKER})
_PODMAN = frozenset({Purpose.PODMAN})
_EMBEDDED = frozenset({Purpose.ROLLOUT})
_TRAINING = frozenset({Purpose.TRAIN})

CHECKS: tuple[Check, ...] = (
    Check("python", host.python, _EVERY),
    Check("packages", host.packages, _EVERY),
    Check("git", host.git, _EVERY),
    Check("processors", host.processors, _EVERY),
    Check("memory", host.memory, _EVERY),
    Check("cache", host.disk, _EVERY),
    Check("tmp", host.temporary, _EVERY),
    Check("open files", host.open_files, _EVERY),
    Check("launcher", sandboxes.launcher, _EMBEDDED),
    Check("packing", sandboxes.packing, frozenset()),
    Check("kernel", sandboxes.kernel, _EMBEDDED),
    Check("control groups", sandboxes.control_groups, _EMBEDDED),
    Check("bubblewrap sandbox", sandboxes.embedded, _EMBEDDED),
    Check("engine", sandboxes.engine, _CONTAINERS),
    Check("image", sandboxes.image, _CONTAINERS),
    Check("docker sandbox", sandboxes.container, _CONTAINERS),
    Check("podman sandbox", sandboxes.podman_container, _PODMAN),
    Check("sandboxes", sandboxes.leftovers, frozenset()),
    Check("training", host.training_packages, _TRAINING),
    Check("gpu", host.gpu, _TRAINING),
    Check("docker hub", network.docker_hub, frozenset()),
    Check("hugging face", network.huggingface, frozenset()),
    Check("pypi", network.pypi, frozenset()),
)
"""Every check, in the order of the report."""


def examine(purpose: Purpose, checks: Iterable[Check] = CHECKS) -> list[Finding]:
    """Every finding, in the order of the checks. A `fail` that the purpose does not need becomes a `warn`."""
    checks = list(checks)
    with contextlib.suppress(ImportError):  # here, because threads that import parts of one package at once can fail
        importlib.import_module("swe_aem.sandbox.podman")
    with ThreadPoolExecutor(max_workers=len(checks)) as threads:
        return [
            _weigh(check, finding, purpose) for check, finding in zip(checks, threads.map(_look, checks), strict=True)
        ]


def _look(check: Check) -> Finding:
    try:
        return check.look()
    except Exception as error:  # one failing check must not hide the others
        return fail(check.name, f"the check failed: {type(error).__name__}: {error}", "please report this")


def _weigh(check: Check, finding: Finding, purpose: Purpose) -> Finding:
    if finding.level is Level.FAIL and purpose not in check.needed_for:
        return finding.model_copy(update={"level": Level.WARN})
    return finding
