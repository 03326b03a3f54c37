"""`Continued`: one response that several requests sample, because updates of the weights interrupt it.

    prompt ──request──> tokens of version 3, cut off ──request: prompt and tokens──> tokens of version 4
    max_tokens 100      60 tokens                      max_tokens 40, another seed   a whole response of two versions

A token is sent back to a server as the prompt of what follows it, and never sampled again.
"""

import hashlib
from collections.abc import Sequence
from itertools import chain

from swe_aem.core import Completion, RoutedExperts, SamplingParams, VersionSpan
from swe_aem.core.policy import EntropyEstimator


class Continued:
    """A response between its first request and its last."""

    def __init__(self, prompt_ids: Sequence[int], params: SamplingParams) -> None:
        self._prompt_ids, self._params = tuple(prompt_ids), params
        self._parts: list[Completion] = []
        self._is_cut = True

    @property
    def begun(self) -> bool:
        """Has any of it been sampled?"""
        return bool(self._parts)

    @property
    def prompt_ids(self) -> tuple[int, ...]:
        """The prompt of the next request: what was sampled so far follows the response's own."""
        return (*self._prompt_ids, *self._token_ids) if self._parts else self._prompt_ids

    @property
    def params(self) -> SamplingParams:
        """How the next request is sampled: with the tokens that are left, and where a part has been sampled, with a
        seed of its own, for the same one would draw the same random numbers again."""
        if not self._parts:
            return self._params
        sampled = len(self._token_ids)
        seed = None if self._params.seed is None else _seed_after(self._params.seed, sampled)
        return self._params.model_copy(update={"max_tokens": self._params.max_tokens - sampled, "seed": seed})

    @property
    def is_whole(self) -> bool:
        """Is there nothing left to sample? A request may be cut off after the last token too."""
        stopped = self.begun and self._parts[-1].finish_reason == "stop"
        return not self._is_cut or stopped or self.params.max_tokens < 1

    def add(self, part: Completion, *, is_cut: bool) -> None:
        """Add what one request has sampled; `is_cut` unless it was let to its end."""
        self._parts.append(part)
        self._is_cut = is_cut

    def completion(self) -> Completion:
        """The response of all its parts; how the last one ended is how it ends."""
        first, last = self._parts[0], self._parts[-1]
        if first is last:
            return first
        entropies, estimator = self._entropies()
        return Completion(
            token_ids=self._token_ids,
            logprobs=tuple(chain.from_iterable(part.logprobs for part in self._parts)),
            finish_reason=last.finish_reason,
            version=first.version,
            spans=self._spans(),
            entropies=entropies,
            entropy_estimator=estimator,
            routed_experts=self._routed_experts(),
        )

    @property
    def _token_ids(self) -> tuple[int, ...]:
        return tuple(chain.from_iterable(part.token_ids for part in self._parts))

    def _spans(self) -> tuple[VersionSpan, ...]:
        spans: list[VersionSpan] = []
        version, start = self._parts[0].version, 0
        for part in self._parts:
            if part.version != version:
                spans.append(VersionSpan(start=start, version=part.version))
            version, start = part.version, start + len(part.token_ids)
        return tuple(spans)

    def _routed_experts(self) -> RoutedExperts | None:
        """Those of all parts. The last token of a part is read once more by the request that continues it, so what
        follows it was sampled from where it went then."""
        found = [part.routed_experts for part in self._parts if part.routed_experts is not None]
        return RoutedExperts.joined(found) if len(found) == len(self._parts) else None

    def _entropies(self) -> tuple[tuple[float, ...] | None, EntropyEstimator | None]:
        """The estimates of all parts, if one estimator made them; otherwise the surprisal, which is there for all."""
        estimators = {part.entropy_estimator for part in self._parts}
        if len(estimators) > 1:
            return tuple(-value for part in self._parts for value in part.logprobs), "surprisal"
        found = [part.entropies for part in self._parts if part.entropies is not None]
        return (tuple(chain.from_iterable(found)) if found else None), self._parts[0].entropy_estimator


def _seed_after(seed: int, tokens: int) -> int:
    """The seed, of 48 bits, of the request that continues a response of that seed after so many tokens."""
    digest = hashlib.sha256(f"{seed} {tokens}".encode()).digest()
    return int.from_bytes(digest[:6], "big")
