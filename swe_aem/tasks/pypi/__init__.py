"""Task sets made from real packages: a recipe names a source distribution on PyPI and how to use it.

The repository contains no third-party source: `swe-aem tasks build` downloads it, checks its hash, puts bugs into it
and writes rows and packages as `tasks/micro` has them. Third-party code runs in sandboxes only.
"""

from swe_aem.tasks.pypi.build import BuildConfig, Built, build

__all__ = ["BuildConfig", "Built", "build"]
