"""`Frozen`: the base of every record and configuration."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Immutable pydantic model that refuses unknown keys, so a misspelt setting is an error and not a no-op."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Settings = Frozen
"""The base of what has settings of its own, under its public name: the fields of a subclass are its settings."""
