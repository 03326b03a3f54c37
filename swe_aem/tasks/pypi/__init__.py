"""Sets made from real packages: recipes name a source distribution of PyPI and what is done with it.

No source of others lies in a repository: `swe-aem tasks build` downloads it, checks its hash, puts bugs into it and
writes rows and packages as `tasks/micro` has them. Third-party code runs in sandboxes alone.
"""

from swe_aem.tasks.pypi.build import BuildConfig, Built, build

__all__ = ["BuildConfig", "Built", "build"]
