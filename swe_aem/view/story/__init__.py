"""What there is to tell about one trajectory, made once for pages and for the terminal.

`why` says in a sentence how it ended; `turns_of` has its turns; `patch_files` its patch; `tested` its tests. None of it
cuts a text: `swe_aem.view.story.clip` does, where it is shown.
"""

from swe_aem.view.story.clip import Budget, Clipped, Piece
from swe_aem.view.story.patch import PatchFile, patch_files
from swe_aem.view.story.tests import TestGroup, tested
from swe_aem.view.story.turns import Argument, Call, Stream, Turn, stream_of
from swe_aem.view.story.why import Clause, why

__all__ = [
    "Argument",
    "Budget",
    "Call",
    "Clause",
    "Clipped",
    "PatchFile",
    "Piece",
    "Stream",
    "TestGroup",
    "Turn",
    "patch_files",
    "stream_of",
    "tested",
    "why",
]
