"""Runs of every kind with hostile texts wherever a policy, a repository, an API or a user's file can put one."""

import io
import json
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from swe_aem.core import Branch, Outcome, Response, TestStatus, ToolCall, Trajectory, TrajectoryKey, Verdict
from swe_aem.policy import load_tokenizer
from swe_aem.rollout import RolloutConfig
from swe_aem.rollout.manifest import Manifest
from swe_aem.rollout.store_tokenizer import tokenizer_fingerprint
from swe_aem.store import log_path
from swe_aem.store.failures import FailureLog, failed_attempt
from swe_aem.store.graded import graded_prediction, write_graded
from swe_aem.store.upgrade import FORMAT
from swe_aem.testing.builders import make_trajectory
from tests.view.index.stores import write_store

CANARY = "Kakadu"
"""A word of every text, so that a page can be asked whether it shows one."""
TEXTS = tuple(
    f"{text} {CANARY}"
    for text in (
        "</pre></td></table><script>alert(1)</script>",
        '"><img src=x onerror=alert(1)><a href="javascript:alert(1)">',
        "\x1b[31;1m\x1b]0;title\x07\x9b31m",
        "\u202etxt\u200b",
        "\0\x08\x7f",
        "{{ 7 * 7 }}{% raw %}",
        "diff --git a/<b> b/<b>\n--- a/<b>\n+++ b/<b>\n@@ -1 +1 @@\n+<i>",
        "\udcff\ud800",
        "javascript:alert(1)",
        "'\"`\\' onfocus=alert(1) autofocus='",
        "--- \n+++ ",
        "<!--<script></title></textarea></style>]]>",
        "../../../etc/passwd?a=b#c&d=%2e%2e%0d%0aSet-Cookie: a=b",
        "&lt;b&gt;&#60;b&#62;",
    )
)


def whole(texts: Sequence[str]) -> str:
    """All of them in one."""
    return " ".join(texts)


def trajectory(texts: Sequence[str], task: str, sample: int, outcome: Outcome, **changes: Any) -> Trajectory:
    """A trajectory all of whose texts are among these, and whose tokens are their bytes."""
    name, argument, key, seen, said, thought, test, path, line, log, patch, role = (
        texts[n % len(texts)] for n in range(sample, sample + 12)
    )
    calls = (
        ToolCall(name=name, arguments={"command": argument, key: argument}, observation=seen),
        ToolCall(name="edit", arguments={"path": path, "old_str": argument, "new_str": seen}),
        ToolCall(name="bash", arguments={"command": whole(texts)}, observation=whole(texts), status="malformed"),
    )
    ids = tuple(load_tokenizer(None).encode(whole(texts).encode("utf-8", "replace").decode()))
    response = Response(
        start=2,
        end=len(ids) - 1,
        logprobs=(-0.5,) * (len(ids) - 3),
        version=1,
        finish_reason="stop",
        sample_s=2.0,
        tool_calls=calls,
    )
    counts = outcome is not Outcome.INFRASTRUCTURE
    verdict = Verdict(
        resolved=outcome is Outcome.RESOLVED,
        patch_applied=True,
        fail_to_pass={test: TestStatus.PASSED if outcome is Outcome.RESOLVED else TestStatus.FAILED},
        pass_to_pass={whole(texts): TestStatus.PASSED},
        stripped_files=(path, f"{path} ({line})"),
        integrity=(line, whole(texts)) if outcome is Outcome.INTEGRITY_VIOLATION else (),
        odd_once=(line,),
        cause=line if not counts else "",
        log_tail=log,
    )
    messages = (
        {"role": role, "content": said},
        {"role": "assistant", "content": said, "reasoning_content": thought, "tool_calls": [{"function": argument}]},
        {"role": role, "content": [{"text": seen}, {"image": key}]},
    )
    given: dict[str, Any] = {
        "agent": name,
        "model": whole(texts),
        "token_ids": ids,
        "responses": (response,),
        "branches": (Branch(token_ids=(1, 2), responses=(), messages=messages),),
        "messages": messages,
        "verdict": verdict,
        "patch": patch + whole(texts),
        "error": line,
        "outcome": outcome,
        "reward": float(outcome is Outcome.RESOLVED) if counts else None,
        "reward_terms": {key: 1.0},
        "timings_s": {"agent": 1.0, key: 2.0},
    }
    return make_trajectory(task, sample, **(given | changes))


def write_world(directory: Path, texts: Sequence[str]) -> TrajectoryKey:
    """Runs `train`, `train+rollouts`, `other` and `grades` below `directory`, in place of what was there; returns a
    trajectory of both stores."""
    shutil.rmtree(directory, ignore_errors=True)
    text = whole(texts)
    key = TrajectoryKey(text, 0)
    endings = (Outcome.INTEGRITY_VIOLATION, Outcome.RESOLVED, Outcome.INFRASTRUCTURE, Outcome.UNRESOLVED)
    ones = [trajectory(texts, text, n, outcome) for n, outcome in enumerate(endings)]
    ones += [trajectory(texts, one, 0, Outcome.UNRESOLVED) for one in dict.fromkeys(texts) if one != text]
    train, other, grades = (directory / name for name in ("train", "other", "grades"))
    for store, several in ((train / "rollouts", ones), (other, [_turned(one) for one in ones])):
        write_store(store, several)
        _describe_store(store, texts, key)
    steps = [{"step": n, "wall_s": n, "version": n, "outcomes": {"resolved": 1, text: 2}} for n in (1, 2)]
    (train / "metrics.jsonl").write_text("".join(json.dumps(step) + "\n" for step in steps))
    (train / "summary.json").write_text(json.dumps({"model": text, "tasks": text, "steps": 2, "wall_s": 2.0}))
    settings = {"model": {"path": text, text: [text]}, "steps": 2, text: {text: text}}
    shown = text.encode("utf-8", "backslashreplace").decode()
    settings = json.loads(json.dumps(settings).replace(json.dumps(text)[1:-1], json.dumps(shown)[1:-1]))
    (train / "config.yaml").write_text(yaml.safe_dump(settings, allow_unicode=False))
    line = "2026-01-01T00:00:00.000Z host WARNING swe_aem: "
    (train / "run.log").write_bytes(f"{line}{text}\n".encode("utf-8", "surrogatepass") * 3)
    grades.mkdir()
    write_graded(grades, [graded_prediction(one, 1.0) for one in ones])
    return key


def _turned(one: Trajectory) -> Trajectory:
    """The trajectory, resolved where it was unresolved."""
    if one.outcome is not Outcome.UNRESOLVED or one.verdict is None:
        return one
    verdict = one.verdict.model_copy(update={"resolved": True})
    return one.model_copy(update={"outcome": Outcome.RESOLVED, "reward": 1.0, "verdict": verdict})


def _bytes(text: str) -> bytes:
    """Bytes that are no UTF-8 where the text has surrogates: what they stand for, or themselves."""
    return b"".join(
        one.encode("utf-8", "surrogateescape" if "\udc80" <= one <= "\udcff" else "surrogatepass") for one in text
    )


def _describe_store(store: Path, texts: Sequence[str], key: TrajectoryKey) -> None:
    """What stands in a store beside its trajectories."""
    text = whole(texts)
    log = FailureLog(store)
    plain = text.encode("utf-8", "backslashreplace").decode()
    for one in texts:
        log.append(failed_attempt(ValueError(one), task_id=plain, sample=0, attempt=1, part="agent", phase=plain))
    log.close()
    config = RolloutConfig(tasks=plain, user=plain)
    manifest = Manifest(
        run=text,
        store_format=FORMAT,
        versions={text: text},
        config=config,
        tasks={key.task_id: text},
        tokenizer=tokenizer_fingerprint(None),
    )
    (store / "config.json").write_text(json.dumps(manifest.model_dump(mode="json")))
    path = log_path(store, key)
    path.parent.mkdir()
    path.write_bytes(zipped(_bytes(text)))


def zipped(output: bytes, name: str = "output.log", compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip file with one member."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        archive.writestr(name, output)
    return packed.getvalue()
