"""`PrefixCache`: what it finds is what was stored of the longest beginning in common, and its size is bounded."""

from itertools import takewhile

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.torch

torch = pytest.importorskip("torch", reason="needs the transformers extra")

from swe_aem.policy.prefix_cache import PrefixCache  # noqa: E402

SEQUENCES = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=70), min_size=1, max_size=8)


def states(ids):
    """Every position holds the sum of the ids up to it, as a stand-in for what depends on all of them."""
    return torch.tensor(ids, dtype=torch.float32).cumsum(0).reshape(1, 1, 1, -1, 1).expand(2, 2, 3, -1, 4).clone()


def common(first, second):
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


@given(known=SEQUENCES, wanted=st.lists(st.integers(0, 1), min_size=1, max_size=70))
def test_finds_whole_blocks_of_the_longest_beginning(known, wanted):
    cache = PrefixCache(max_bytes=1 << 20)
    for ids in known:
        cache.add(ids, states(ids))
    length = max(min(common(ids, wanted), len(wanted) - 1) // 16 * 16 for ids in known)
    found = cache.longest(wanted)
    if length == 0:
        assert found is None
    else:
        assert torch.equal(found, states(wanted)[:, :, :, :length])


@given(known=SEQUENCES)
def test_size_is_bounded_and_the_newest_is_kept(known):
    bound = states([0] * 70).nbytes
    cache = PrefixCache(max_bytes=bound)
    for ids in known:
        cache.add(ids, states(ids))
        if len(ids) > 16:
            assert cache.longest(ids) is not None
        assert sum(one.states.nbytes for one in cache._sequences) == cache._bytes <= bound
        assert set(cache._by_blocks.values()) <= set(cache._sequences)


def test_the_least_recently_used_goes_first():
    first, second, third = ([n] * 32 for n in range(3))
    cache = PrefixCache(max_bytes=2 * states(first).nbytes)
    cache.add(first, states(first))
    cache.add(second, states(second))
    cache.longest(first)
    cache.add(third, states(third))
    assert cache.longest(second) is None
    assert cache.longest(first) is not None
    cache.clear()
    assert cache.longest(first) is None
