"""Which of many servers samples for a trajectory."""

from collections import Counter

from swe_aem.policy.slots import FIRST, LEAST
from swe_aem.policy.vllm import choose_server
from swe_aem.policy.vllm_server import VllmClientConfig, VllmServer

URLS = tuple(f"http://10.0.0.{number}:8000" for number in range(8))


def servers(urls: tuple[str, ...] = URLS, at_once: int | None = None) -> list[VllmServer]:
    config = VllmClientConfig(urls=urls, at_once=at_once)
    return [VllmServer(url, config) for url in urls]


def test_processes_that_do_not_know_each_other_choose_the_same_server() -> None:
    one, other = servers(), servers(URLS[::-1])
    for number in range(50):
        assert choose_server(f"t.{number}", one).url == choose_server(f"t.{number}", other).url


def test_a_server_that_is_gone_moves_only_its_own_trajectories() -> None:
    able = servers()
    before = {f"t.{number}": choose_server(f"t.{number}", able).url for number in range(200)}
    left = able[1:]
    assert {id: choose_server(id, left).url for id, url in before.items() if url != able[0].url} == {
        id: url for id, url in before.items() if url != able[0].url
    }
    assert len(set(before.values())) == 8


def test_no_server_gets_much_more_than_its_share() -> None:
    able, load = servers(at_once=256), Counter[str]()
    for number in range(256):
        chosen = choose_server(f"t.{number}", able)
        chosen.slots.in_flight += 1
        load[chosen.url] += 1
    assert max(load.values()) <= 1.25 * 256 / 8 + 1
    assert min(load.values()) > 0


def test_slots_begin_with_a_servers_share_of_the_places() -> None:
    assert [server.slots.limit for server in servers(at_once=100)] == [13] * 8
    assert servers(at_once=1)[0].slots.limit == LEAST
    assert servers()[0].slots.limit == FIRST
