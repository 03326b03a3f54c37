"""The parts below a pull: references, what engines say, gates, progress, pins, mirrors."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.errors import InfrastructureError, UserError
from swe_aem.sandbox.images.collect import Disk, Watermark, parse_share
from swe_aem.sandbox.images.failures import PullFailure, classify, retry_after_s
from swe_aem.sandbox.images.layers import Layers
from swe_aem.sandbox.images.pins import read_pins, write_pins
from swe_aem.sandbox.images.reference import Reference, canonical
from swe_aem.sandbox.images.registries import credentials_for, load_credentials, load_registries
from swe_aem.sandbox.images.registry_wait import parse_retry_after
from swe_aem.sandbox.images.request_gate import Backoff, RequestGate
from swe_aem.sandbox.images.sizes import parse_bytes

DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("debian", "docker.io/library/debian:latest", "debian:latest"),
        ("a/b.c_1776_d-1:v1", "docker.io/a/b.c_1776_d-1:v1", "a/b.c_1776_d-1:v1"),
        ("localhost:5000/a", "localhost:5000/a:latest", "localhost:5000/a:latest"),
        ("ghcr.io/a/b/c:x", "ghcr.io/a/b/c:x", "ghcr.io/a/b/c:x"),
        (f"a/b@{DIGEST}", f"docker.io/a/b@{DIGEST}", f"a/b@{DIGEST}"),
        (f"a/b:1@{DIGEST}", f"docker.io/a/b:1@{DIGEST}", f"a/b:1@{DIGEST}"),
        ("index.docker.io/a/b", "docker.io/a/b:latest", "a/b:latest"),
    ],
)
def test_references_are_read_as_the_engine_reads_them(text: str, full: str, familiar: str) -> None:
    reference = Reference.parse(text)
    assert (str(reference), reference.familiar, canonical(text)) == (full, familiar, full)
    assert Reference.parse(full) == Reference.parse(familiar) == reference


@pytest.mark.parametrize("text", ["", "A/B", "a//b", "a:b:c", "a@sha256:1", ":1", "a b", "-a", DIGEST, "a" * 64, "a:"])
def test_what_is_no_reference_is_refused_and_stays_as_it_is_in_the_ledger(text: str) -> None:
    with pytest.raises(UserError, match="not an image reference"):
        Reference.parse(text)
    assert canonical(text) == text


@given(st.text(max_size=40))
def test_reading_a_reference_is_stable(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


def test_a_mirror_may_have_a_path() -> None:
    assert str(Reference.parse("debian:12").at("localhost:5000/hub")) == "localhost:5000/hub/library/debian:12"


SAID = [
    ("toomanyrequests: You have reached your unauthenticated pull rate limit.", PullFailure.RATE_LIMITED),
    ("received unexpected HTTP status: 429 Too Many Requests", PullFailure.RATE_LIMITED),
    ("denied: toomanyrequests: retry-after: 153.125µs, allowed: 44000/minute", PullFailure.RATE_LIMITED),
    ("filesystem layer verification failed for digest sha256:1429", PullFailure.CORRUPT),
    ("failed to register layer: Error processing tar file(exit status 1): unexpected EOF", PullFailure.CORRUPT),
    ("failed to register layer: write /usr/lib/x: no space left on device", PullFailure.NO_SPACE),
    ("manifest for a/b:1 not found: manifest unknown: manifest unknown", PullFailure.MISSING),
    ("pull access denied for a/b, repository does not exist or may require 'docker login': denied", PullFailure.DENIED),
    ("unauthorized: authentication required", PullFailure.DENIED),
    ('Get "https://x/v2/": dial tcp: lookup x on 10.0.0.1:53: no such host', PullFailure.UNREACHABLE),
    ('Get "http://127.0.0.1:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused', PullFailure.UNREACHABLE),
    ("received unexpected HTTP status: 503 Service Unavailable", PullFailure.OTHER),
    ("unexpected EOF", PullFailure.OTHER),
]


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_what_an_engine_says_is_understood(said: str, kind: PullFailure) -> None:
    assert classify(said) is kind


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("retry-after: 153.125µs, allowed", 153.125e-6), ("Retry-After: 30", 30), ("retry after 1m30s", 90), ("no", None)],
)
def test_a_wait_in_the_registrys_words(said: str, seconds: float | None) -> None:
    assert retry_after_s(said) == (None if seconds is None else pytest.approx(seconds))


def test_a_wait_in_the_registrys_header() -> None:
    assert parse_retry_after("120") == 120
    assert parse_retry_after("Fri, 01 Jan 2021 00:00:00 GMT") == 0
    assert parse_retry_after("soon") is parse_retry_after(None) is None


class Clock:
    """A clock that a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        """Now, in seconds."""
        return self.now_s


def test_pulls_that_hit_one_limit_together_are_one_strike() -> None:
    clock = Clock()
    gate = RequestGate(Backoff(rate_limit_first_s=30, longest_s=900), clock)
    began_s = clock.now_s
    clock.now_s += 1
    gate.rate_limited(began_s, None)
    assert 14 < gate.wait_s < 31
    opens_s = gate.opens_at_s
    gate.rate_limited(began_s, None)  # was under way already: at most as long as the first
    assert gate.opens_at_s < opens_s + 16
    clock.now_s = gate.opens_at_s
    gate.rate_limited(clock.now_s, None)
    assert 29 < gate.wait_s < 61
    gate.answered()
    clock.now_s = gate.opens_at_s
    gate.rate_limited(clock.now_s, 500)
    assert gate.wait_s == pytest.approx(500)


def test_a_wait_of_no_time_is_no_busy_loop() -> None:
    gate = RequestGate(Backoff(first_s=2), Clock())
    gate.rate_limited(100.0, 1e-6)
    assert gate.wait_s >= 1


def test_a_registry_that_cannot_be_reached_is_given_up() -> None:
    clock = Clock()
    gate = RequestGate(Backoff(strikes=2), clock)
    for _ in range(2):
        assert gate.down is None
        gate.unreachable(clock.now_s, InfrastructureError("gone"))
        clock.now_s = gate.opens_at_s
    assert str(gate.down) == "gone"


@given(st.integers(1, 200), st.floats(0, 1))
def test_backoff_is_bounded(strike: int, chance: float) -> None:
    backoff = Backoff(first_s=2, longest_s=60)
    assert 1 <= backoff.after(strike, 2, lambda: chance) <= 60


def test_progress_is_what_moves_forward() -> None:
    layers = Layers()
    assert layers.feed({"status": "Pulling from a/b", "id": "1"})
    assert layers.feed({"status": "Pulling fs layer", "progressDetail": {}, "id": "x"})
    assert layers.feed({"status": "Waiting", "progressDetail": {}, "id": "x"})
    assert layers.waiting
    half = {"status": "Downloading", "progressDetail": {"current": 50, "total": 100}, "id": "x"}
    assert layers.feed(half)
    assert not layers.feed(half)
    assert not layers.waiting
    assert (layers.done_bytes, layers.total_bytes, layers.counts) == (50, 100, (0, 1))
    assert not layers.feed({"status": "Retrying in 5 seconds", "progressDetail": {}, "id": "x"})
    assert layers.feed({"status": "Downloading", "progressDetail": {"current": 10, "total": 100}, "id": "x"})
    assert layers.feed({"status": "Pull complete", "progressDetail": {}, "id": "x"})
    assert layers.feed({"status": f"Digest: {DIGEST}"})
    assert (layers.done_bytes, layers.counts, layers.digest) == (100, (1, 1), DIGEST)


messages = st.fixed_dictionaries(
    {"status": st.sampled_from(["Downloading", "Waiting", "Extracting", "Pull complete", "Retrying in 1 second", "?"])},
    optional={
        "id": st.sampled_from(["x", "y"]),
        "progressDetail": st.fixed_dictionaries({}, optional={"current": st.integers(0, 9), "total": st.just(9)}),
    },
)


@given(st.lists(messages))
def test_any_messages_keep_the_bytes_in_bounds(stream: list[dict]) -> None:
    layers = Layers()
    for message in stream:
        layers.feed(message)
        assert layers.done_bytes >= 0
        assert layers.counts[0] <= layers.counts[1]


def test_pins_come_back_as_written(tmp_path: Path) -> None:
    path = tmp_path / "images.pins"
    assert read_pins(path) == {}
    pins = {"docker.io/a/b:1": DIGEST, "ghcr.io/c/d:2": OTHER}
    write_pins(path, pins)
    assert read_pins(path) == pins


@pytest.mark.parametrize("line", ["a/b:1", f"a/b:1 {DIGEST} x", "a/b:1 sha256:12", f"A/B {DIGEST}"])
def test_a_bad_pin_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "pins"
    path.write_text(f"# comment\n\n{line}\n")
    with pytest.raises(UserError):
        read_pins(path)
    path.write_text(f"a/b:1 {DIGEST}\ndocker.io/a/b:1 {OTHER}\n")
    with pytest.raises(UserError, match="line 2: a second digest"):
        read_pins(path)


def test_mirrors_from_flags_environment_and_file_in_that_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "config" / "swe-aem" / "registries.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(
        "mirrors:\n  docker.io: [mirror.example.org/hub, 'localhost:5000']\n  ghcr.io: ['localhost:6000']\n"
    )
    monkeypatch.setenv("SWE_AEM_MIRRORS", "docker.io=http://10.0.0.1:5000/")
    registries = load_registries(["docker.io=localhost:5000"])
    assert registries.mirrors["docker.io"] == ("localhost:5000", "10.0.0.1:5000", "mirror.example.org/hub")
    assert registries.mirrors["ghcr.io"] == ("localhost:6000",)
    assert [source.registry for source in registries.sources(Reference.parse("ghcr.io/a/b"))] == [
        "localhost:6000",
        "ghcr.io",
    ]
    assert len(registries.sources(Reference.parse(f"a/b@{DIGEST}"))) == 1
    file.write_text("mirror:\n  docker.io: [x]\n")
    with pytest.raises(UserError, match=r"registries\.yaml"):
        load_registries()


@pytest.mark.parametrize("flag", ["docker.io", "=x", "docker.io=", "docker.io=plain", "docker.io=HOST:5/UPPER"])
def test_a_bad_mirror_is_refused(flag: str) -> None:
    with pytest.raises(UserError):
        load_registries([flag])


def test_credentials_of_a_helper_and_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "bin" / "docker-credential-test"
    helper.parent.mkdir()
    helper.write_text('#!/bin/sh\necho \'{"Username": "u", "Secret": "p", "ServerURL": "x"}\'\n')
    helper.chmod(0o755)
    (tmp_path / "docker").mkdir()
    (tmp_path / "docker" / "config.json").write_text('{"credHelpers": {"r.example.org": "test"}}')
    monkeypatch.setenv("PATH", str(helper.parent), prepend=":")
    found = credentials_for(load_credentials(), "r.example.org")
    assert found is not None
    assert (found["Username"], found["Password"]) == ("u", "p")
    assert credentials_for(load_credentials(), "other.example.org") is None
    helper.write_text("#!/bin/sh\necho no luck\nexit 1\n")
    with pytest.raises(UserError, match="credential helper"):
        credentials_for(load_credentials(), "r.example.org")
    monkeypatch.setenv("DOCKER_AUTH_CONFIG", "{not json")
    with pytest.raises(UserError, match="DOCKER_AUTH_CONFIG"):
        load_credentials()


@pytest.mark.parametrize(
    ("text", "count"), [("50GiB", 50 << 30), ("50G", 50 << 30), ("1.5k", 1536), ("2MB", 2_000_000), ("7", 7), ("9B", 9)]
)
def test_sizes(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "5 apples", "1e3"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError):
        parse_bytes(text)


def test_watermarks() -> None:
    mark = Watermark(high=parse_share("85%"), low=parse_share("70"))
    assert mark.exceeded(Disk(100, 14))
    assert not mark.exceeded(Disk(100, 16))
    assert mark.reached(Disk(100, 30))
    assert not mark.reached(Disk(100, 29))
    assert Watermark(high=1, low=1, free_bytes=20).exceeded(Disk(100, 19))
    with pytest.raises(UserError):
        parse_share("101%")
