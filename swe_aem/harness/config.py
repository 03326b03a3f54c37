"""Settings of harnesses."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from swe_aem.core.base import Frozen

_Count = Annotated[int, Field(ge=1)]


class HarnessConfig(Frozen):
    """How a harness is run."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    workers: _Count | None = None
    """Most processes of a run; one per CPU if not given. They start when they are needed."""
    conversations: _Count = 32
    """Conversations in one process before another process is started."""
    pins: tuple[str, ...] = ()
    """Packages in other versions than the harness asks for, e.g. openhands-sdk==1.34.0. Each choice of pins has its own
    environment."""
    options: dict[str, Any] = {}
    """The harness's own settings; `swe-aem harness ls` shows them."""
