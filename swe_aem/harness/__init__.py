"""The harness room: agents of other people, each in an environment and processes of its own.

A harness is one file that runs in its own environment (`inside/`, or a user's) and names its packages at its head. It
asks the gateway for responses and acts in a sandbox that it never sees: commands and files go through this process.

    HarnessAgent ──> WorkerProcess (a process, many conversations) ──> Gateway ──> Policy
                        └──────────── Sandbox

See `docs/bring-your-own-agent.md`.
"""

from swe_aem.harness.spec import HarnessSpec, is_harness, read_harness_spec

__all__ = ["HarnessSpec", "is_harness", "read_harness_spec"]
