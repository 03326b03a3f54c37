"""Causes of failures, told once with how often they came."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

_KEPT = 50
"""Different causes that are counted; later ones are counted together."""
_OTHERS = "other causes"
_ID = re.compile(r"\b(?=[a-z]*[0-9])[0-9a-f]{8,}\b|\b\d+\.\d+(?= s\b)|0x[0-9a-f]+")
"""What differs between two failures of one cause: ids, addresses, measured seconds."""


def counted(said: Iterable[str]) -> str:
    """Phrases with semicolons between them, each once, with how often it came."""
    times = Counter(said)
    return "; ".join(one if count == 1 else f"{one} ({count} times)" for one, count in times.items())


@dataclass
class Causes:
    """The causes of a run's failures, in the order in which they first came."""

    times: dict[str, int] = field(default_factory=dict)
    """The first text of each, and how often it came."""
    _texts: dict[str, str] = field(default_factory=dict)

    def add(self, text: str, times: int = 1) -> int:
        """Count a failure, or several; how often its cause has come by now."""
        pattern = cause_pattern(text)
        if pattern not in self._texts and len(self._texts) >= _KEPT:
            pattern = text = _OTHERS
        text = self._texts.setdefault(pattern, text)
        self.times[text] = self.times.get(text, 0) + times
        return self.times[text]

    def after(self, earlier: Mapping[str, int]) -> dict[str, int]:
        """The counts of an earlier process and these together."""
        both = Causes(dict(earlier), {cause_pattern(text): text for text in earlier})
        for text, times in self.times.items():
            both.add(text, times)
        return both.times


def cause_pattern(text: str) -> str:
    """What two failures of one cause have in common: the text without ids, addresses and measured seconds."""
    return _ID.sub("#", text)
