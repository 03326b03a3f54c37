"""A sandbox: what the commands of agents and tests run in."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import swe_aem as sa
from swe_aem.core import SandboxSpec
from swe_aem.sandbox.bubblewrap import BubblewrapBackend
from swe_aem.sandbox.warden import WardenSandbox


class Backend(BubblewrapBackend):
    """Bubblewrap's sandboxes with more variables in their environment.

    One that starts something else derives from nothing, and has the methods of `swe_aem.core.SandboxBackend`.
    """

    name = "new-name"

    def __init__(self, variables: dict[str, str]) -> None:
        super().__init__()
        self._variables = variables

    @asynccontextmanager
    async def open(self, spec: SandboxSpec) -> AsyncIterator[WardenSandbox]:
        """A live sandbox for the length of an `async with`."""
        async with super().open(self._with_variables(spec)) as sandbox:
            yield sandbox

    @asynccontextmanager
    async def make_layer(self, spec: SandboxSpec) -> AsyncIterator[WardenSandbox]:
        """A sandbox whose files later ones may start on."""
        async with super().make_layer(self._with_variables(spec)) as sandbox:
            yield sandbox

    def _with_variables(self, spec: SandboxSpec) -> SandboxSpec:
        return spec.model_copy(update={"env": self._variables | spec.env})


class NewName(sa.Settings):
    """The settings that stand beside the sandbox's name."""

    variables: dict[str, str] = {}
    """Environment variables of every command."""

    def backend(self) -> Backend:
        """What starts sandboxes with these settings."""
        return Backend(self.variables)
