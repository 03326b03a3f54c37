"""The log of a verdict is kept, and says the same again without a sandbox, by whatever parser there is then."""

import json
import sys
import zipfile
from pathlib import Path

import pytest

from swe_aem.core import Deadline, TestStatus, Verdict
from swe_aem.grading import Grader, NotReadable, SwebenchParser, read_kept_log
from swe_aem.grading.conclusion import EvaluationEnd
from swe_aem.grading.kept_log import pack_log, ran_digest
from swe_aem.grading.log_file import LogFile
from swe_aem.grading.parser import ParseFailure
from swe_aem.grading.reward_file import RewardFile, Rewards
from swe_aem.sandbox import open_backend
from swe_aem.tasks.families.script import marked_script

pytestmark = [pytest.mark.asyncio(loop_scope="session"), pytest.mark.bubblewrap]

OTHER_PARSER = """
import sys
from swe_aem.grading import worker
from swe_aem.tasks.families import log_parsers

def read(log):
    words = (line.split() for line in log.splitlines())
    names = {"OKAY": "PASSED", "NO": "FAILED"}
    return {word[1]: names[word[0]] for word in words if len(word) == 2 and word[0] in names}

parser = log_parsers.LogParser(name="multi_swe_bench", runner="other", read=read, read_because="of its own words")
log_parsers.PARSERS[parser.name] = parser
worker.main()
"""
"""The worker with another parser in the place of the one that the tasks below name."""


def other_parser() -> SwebenchParser:
    return SwebenchParser((sys.executable, "-c", OTHER_PARSER))


@pytest.fixture
def graded(require_bubblewrap, parser, calc, tmp_path):
    """Grades a patch, and keeps the log; returns the verdict and the log's file."""

    async def run(task=calc, patch=calc.key.gold_patch, max_log_bytes=1 << 20) -> tuple[Verdict, Path]:
        async with (
            Grader(open_backend("bubblewrap"), parser) as grader,
            grader.slot(task.record, task.spec(), max_log_bytes=max_log_bytes) as slot,
        ):
            verdict = await slot.grade(patch, Deadline.after(100))
        path = tmp_path / "kept.zip"
        path.write_bytes(slot.kept_log)
        return verdict, path

    return run


def with_own_words(calc):
    """The task with tests that report in words of their own, which no parser of today understands."""
    command = 'python -c \'import calc; print("OKAY" if calc.add(2, 3) == 5 else "NO", "add")\''
    script = marked_script("", command, "")
    return calc.with_key(
        eval_script=script, test_patch="", log_parser="multi_swe_bench", fail_to_pass=("add",), pass_to_pass=()
    )


async def test_a_kept_log_says_what_the_verdict_said(graded, parser, calc):
    wrong = calc.key.gold_patch.replace("+    return a + b", "+    return b - a")
    for patch in (calc.key.gold_patch, wrong):
        verdict, path = await graded(patch=patch)
        assert await read_kept_log(path, calc.record, parser, verdict) == verdict
        assert verdict.official_resolved is verdict.resolved is (patch != wrong)
        with zipfile.ZipFile(path) as archive:
            assert b"test_calc.py" in archive.read("output.log")
            header = json.loads(archive.read("evaluation.json"))
        assert "pytest" in header["command"]
        assert header["end"]["exit_code"] == verdict.exit_code


@pytest.mark.parametrize("first", ["--version", "--help"])
async def test_a_session_out_of_reach_behind_another_one_is_judged_by_its_log(graded, parser, calc, first):
    """The gold patch's session leaves no record either: found out once, and kept with the log."""
    script = calc.key.eval_script
    hidden = f'python -m pytest {first}; env -i PATH="$PATH" python -m pytest'
    task = calc.with_key(eval_script=script.replace("python -m pytest", hidden))
    assert task.key.eval_script != script
    wrong = calc.key.gold_patch.replace("+    return a + b", "+    return b - a")
    for patch in (wrong, calc.key.gold_patch):
        verdict, path = await graded(task, patch)
        assert (verdict.resolved, verdict.integrity) == (patch != wrong, ()), verdict
        assert TestStatus.MISSING not in verdict.fail_to_pass.values()
        assert await read_kept_log(path, task.record, parser, verdict) == verdict


async def test_a_parser_that_was_changed_is_applied_to_what_was_kept(graded, parser, calc):
    task = with_own_words(calc)
    verdict, path = await graded(task)
    assert (verdict.resolved, verdict.official_resolved) == (False, False)
    assert verdict.fail_to_pass == {"add": TestStatus.MISSING}
    async with other_parser() as changed:
        again = await read_kept_log(path, task.record, changed, verdict)
    assert (again.resolved, again.official_resolved) == (True, True)
    assert again.fail_to_pass == {"add": TestStatus.PASSED}
    assert (again.cpu_s, again.eval_s, again.wall_s) == (verdict.cpu_s, verdict.eval_s, verdict.wall_s)


async def test_a_log_that_the_parser_fails_on_is_kept_for_one_that_does_not(graded, calc, tmp_path):
    task = with_own_words(calc)
    failing = SwebenchParser((sys.executable, "-c", OTHER_PARSER.replace("words = ", "raise ValueError; words = ")))
    async with (
        failing,
        Grader(open_backend("bubblewrap"), failing) as grader,
        grader.slot(task.record, task.spec(), max_log_bytes=1 << 20) as slot,
    ):
        with pytest.raises(ParseFailure):
            await slot.grade(calc.key.gold_patch, Deadline.after(100))
    (tmp_path / "kept.zip").write_bytes(slot.kept_log)
    async with other_parser() as changed:
        assert (await read_kept_log(tmp_path / "kept.zip", task.record, changed, None)).resolved


async def test_evidence_from_elsewhere_stays_and_that_of_the_log_is_read_again(graded, parser, calc):
    printing = calc.with_key(
        eval_script=calc.key.eval_script.replace(
            "python -m pytest", "echo 'x >>>>> Start Test Output'\nenv -i PATH=$PATH python -m pytest"
        )
    )
    verdict, path = await graded(printing)
    assert len(verdict.integrity) == 1, verdict
    before = verdict.model_copy(update={"integrity": (*verdict.integrity, "its twins passed")})
    again = await read_kept_log(path, printing.record, parser, before)
    assert again.integrity == before.integrity
    assert not again.resolved
    fixed = printing.with_key(test_patch=f"{calc.key.test_patch}# >>>>> Start Test Output\n")  # another rule, in effect
    rewritten = rewrite(path, ran=lambda: fixed)
    again = await read_kept_log(rewritten, fixed.record, parser, before)
    assert again.integrity == ("its twins passed",)


def rewrite(path: Path, ran) -> Path:
    """The kept log as if it were one of another task."""
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    header = json.loads(contents["evaluation.json"]) | {"ran": ran_digest(ran().record)}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, json.dumps(header) if name == "evaluation.json" else content)
    return path


async def test_what_cannot_be_concluded_from_a_log_is_said(graded, parser, calc, tmp_path):
    verdict, path = await graded()
    with pytest.raises(NotReadable, match="no kept log"):
        await read_kept_log(tmp_path / "absent.zip", calc.record, parser, verdict)
    other = calc.with_key(eval_script=calc.key.eval_script + "\n# changed\n")
    with pytest.raises(NotReadable, match="others now"):
        await read_kept_log(path, other.record, parser, verdict)
    half = path.read_bytes()[:-100]
    path.write_bytes(half)
    with pytest.raises(NotReadable, match="cannot be read"):
        await read_kept_log(path, calc.record, parser, verdict)


async def test_a_log_with_damaged_content_is_not_readable(calc, parser, tmp_path):
    path = tmp_path / "log.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("evaluation.json", "{}")
    damaged = bytearray(path.read_bytes())
    at = 30 + len("evaluation.json")  # behind the header of the first member
    damaged[at : at + 2] = b"\xff\xff"
    path.write_bytes(damaged)
    with pytest.raises(NotReadable, match="cannot be read"):
        await read_kept_log(path, calc.record, parser, None)


async def test_a_long_log_is_cut_where_it_says(graded, parser, calc):
    noise = 'python -c \'import random; print(random.randbytes(400_000).hex()); print("THE", "END")\'\n'
    loud = calc.with_key(eval_script=calc.key.eval_script.replace("python -m pytest", f"{noise}python -m pytest"))
    verdict, path = await graded(loud, max_log_bytes=100_000)
    assert verdict.patch_applied
    assert 100_000 < path.stat().st_size < 300_000
    with zipfile.ZipFile(path) as archive:
        text = archive.read("output.log")
        left_out = json.loads(archive.read("evaluation.json"))["left_out_bytes"]
    assert f"[... {left_out} bytes of ".encode() in text
    assert b"THE END" in text
    assert left_out > 300_000
    with pytest.raises(NotReadable, match=f"cut: {left_out} bytes"):
        await read_kept_log(path, loud.record, parser, verdict)


async def test_no_log_is_kept_unless_it_is_asked_for(graded, calc):
    _, path = await graded(max_log_bytes=0)
    assert path.read_bytes() == b""
    _, path = await graded(patch="no patch")
    assert path.read_bytes() == b""


async def test_a_reward_is_kept_beside_the_log(parser, calc, tmp_path):
    rewarded = calc.with_key(eval_type="reward_file", fail_to_pass=("reward",), pass_to_pass=())
    (tmp_path / "output.log").write_text("BEGIN\n+ : START\nfine\n+ : 'END'\nCODE: 0\n")
    log = LogFile(path=tmp_path / "output.log", begin="BEGIN", start="START", end="END", code="CODE")
    files = {
        "reward.txt": RewardFile(writable=True, content="0.5"),
        "reward.json": RewardFile(writable=None, content=None),
    }
    rewards = Rewards(files=files, listed=True)
    end = EvaluationEnd(
        exit_code=0, timed_out=False, killed_for=None, wall_s=1.0, starved_s=0.0, cpu_s=None, tail="", rewards=rewards
    )
    (tmp_path / "kept.zip").write_bytes(pack_log(rewarded.record, calc.key.eval_script, log, end, (), 1 << 20))
    verdict = await read_kept_log(tmp_path / "kept.zip", rewarded.record, parser, None)
    assert (verdict.resolved, verdict.official_resolved, verdict.fail_to_pass_fraction) == (False, None, 0.5)
