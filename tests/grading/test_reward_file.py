"""What tests write as a reward, and what of it counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swe_aem.grading.reward_file import _from_json, _from_text, read_rewards, remove_rewards, reward_report
from swe_aem.testing.sandbox import FakeSandbox

LINK, READ_ONLY = 0o120000, 0o100444


async def report(calc, code: int | None = 0, *, tests: bytes = b"", mode: int = 0o100644, **files: bytes):
    """The report on some files, after tests that ended with `code`; `mode` is that of reward.txt."""
    key = calc.with_key(fail_to_pass=("reward",), files={"/tests/test.sh": tests}).key
    return reward_report(key, code, await read_rewards(with_rewards(calc, mode, files)))


def with_rewards(calc, mode, files):
    """A sandbox with these reward files."""
    sandbox = FakeSandbox("1", calc.spec())
    sandbox.files = {f"/logs/verifier/reward.{name}": content for name, content in files.items()}
    sandbox.files["/logs/verifier/test.log"] = b""
    sandbox.modes = {"/logs/verifier/reward.txt": mode}
    return sandbox


@pytest.mark.parametrize(
    ("files", "resolved", "fraction"),
    [
        ({"txt": b"1\n"}, True, 1.0),
        ({"txt": b"1.0"}, True, 1.0),
        ({"txt": b"0"}, False, 0.0),
        ({"txt": b"0.5"}, False, 0.5),
        ({"txt": b"-3"}, False, 0.0),
        ({"json": b'{"reward": 1}'}, True, 1.0),
        ({"json": b'{"accuracy": 0.25}'}, False, 0.25),
        ({"txt": b"1", "json": b'{"reward": 0}'}, False, 0.0),
    ],
)
async def test_a_number_is_a_reward(calc, files, resolved, fraction):
    found = await report(calc, **files)
    assert (found.found, found.resolved, found.fail_to_pass_fraction) == (True, resolved, fraction)


@pytest.mark.parametrize(
    "files",
    [{}, {"txt": b""}, {"txt": b"nan"}, {"txt": b"inf"}, {"txt": b"yes"}, {"json": b"1"}, {"json": b'{"reward": true}'},
     {"json": b"[" * 100_000}, {"json": b'{"a": 1, "b": 1}'}],
)  # fmt: skip
async def test_anything_else_is_none(calc, files):
    assert not (await report(calc, **files)).found


@pytest.mark.parametrize("mode", [LINK, READ_ONLY])
@pytest.mark.parametrize("tests", [b"", b"echo 0 >/logs/verifier/reward.txt"])
async def test_nor_is_what_tests_do_not_write(calc, mode, tests):
    """Code under evaluation makes such a file, so that the tests' script cannot write theirs."""
    assert not (await report(calc, tests=tests, mode=mode, txt=b"1", json=b'{"reward": 1}')).found


async def test_nor_is_what_was_there_before(calc):
    sandbox = with_rewards(calc, LINK, {"txt": b"1", "json": b'{"reward": 1}'})
    await remove_rewards(sandbox)
    assert set(sandbox.files) == {"/logs/verifier/test.log"}


async def test_only_the_file_that_the_tests_speak_of_counts(calc):
    found = await report(calc, tests=b"echo 0 >/logs/verifier/reward.txt", json=b'{"reward": 1}')
    assert not found.found


async def test_a_script_that_did_not_end_well_resolves_nothing(calc):
    assert (await report(calc, 1, txt=b"1")).resolved is False
    assert (await report(calc, 137, txt=b"1")).found is False
    assert (await report(calc, None, txt=b"1")).found is False


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    for parse in (_from_text, _from_json):
        assert parse(text) is None or isinstance(parse(text), float)
