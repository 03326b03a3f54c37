"""Harnesses: agents made elsewhere, each with its own Python environment and processes.

A harness is one file, bundled in `inside/` or a user's, whose head names its packages. It requests responses from the
gateway and acts in a sandbox only through this process, which carries out its commands and file operations.

    HarnessAgent ──> WorkerProcess (many conversations) ──> Gateway ──> Policy
                        └──────────── Sandbox

`docs/bring-your-own-agent.md` describes how to write one.
"""

from swe_aem.harness.agent import HarnessAgent, open_harness
from swe_aem.harness.config import HarnessConfig
from swe_aem.harness.environment import install, installed
from swe_aem.harness.spec import BUNDLED, HarnessSpec, is_harness, read_harness_spec

__all__ = [
    "BUNDLED",
    "HarnessAgent",
    "HarnessConfig",
    "HarnessSpec",
    "install",
    "installed",
    "is_harness",
    "open_harness",
    "read_harness_spec",
]
