"""Model families: the chat formats that models are trained with, and how a model's is told by its files.

`builtin` has a row for each family, `choose` finds a model's, `calls` reads tool calls, and `properties` checks that a
format holds what rollouts rely on. Rendering is the library `renderers`' work, but for the formats of `harmony`.
"""

from swe_aem.agent.families.choose import Choice, choose_family
from swe_aem.agent.families.family import Family
from swe_aem.agent.families.registry import AUTO, MODEL_FAMILIES

__all__ = ["AUTO", "MODEL_FAMILIES", "Choice", "Family", "choose_family"]
