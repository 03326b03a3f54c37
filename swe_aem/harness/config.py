"""Settings of harnesses."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen

_Count = Annotated[int, Field(ge=1)]


class HarnessConfig(Frozen):
    """How a harness is run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    workers: _Count | None = None
    """Processes at most; one per CPU if not given. They start when they are needed."""
    conversations: _Count = 32
    """Conversations that a process takes before another one is started."""
    pins: tuple[str, ...] = ()
    """Packages in other versions than the harness's own, e.g. openhands-sdk==1.34.0; an environment of its own."""
    options: dict[str, Any] = {}
    """The harness's own settings; `swe-aem harness ls` shows them."""
