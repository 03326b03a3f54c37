"""The page about a training run: one HTML file that holds its plots, and the sentence that says what they amount to.

`write_report(read_training_run(DIR), OUT)` makes OUT/report.html and OUT/plots/*.png.
"""

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from swe_aem.core import Trajectory
from swe_aem.core.base import Frozen
from swe_aem.errors import UserError
from swe_aem.store import replace
from swe_aem.view.html import readable, template
from swe_aem.view.plots import MANY_STEPS, Drawn, draw
from swe_aem.view.training_run import Example, TrainingRun, examples
from swe_aem.view.training_words import fact_rows, later, rate_rows, sentence

SHOWN_CHARACTERS = 4000
"""Characters shown of one message of an example; the middle of a longer one is left out."""
SHOWN_MESSAGES = 60
"""Messages shown of one example."""
_DPI = 120


class Written(Frozen):
    """What `write_report` made."""

    page: Path
    plots: tuple[Path, ...]
    sentence: str
    """Whether the policy learned, in one sentence."""


def write_report(run: TrainingRun, out: Path) -> Written:
    """Draw a run into `out`, which is created; raises `UserError` for a place that cannot be written."""
    shown = examples(run.directory)
    try:
        (out / "plots").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out / 'plots'}: {error.strerror}; name another place with --out") from None
    plots, paths = [], []
    for drawn in draw(run):
        image = _png(drawn)
        paths.append(out / "plots" / f"{drawn.name}.png")
        paths[-1].write_bytes(image)
        data = base64.b64encode(image).decode()
        plots.append({"title": drawn.title, "caption": drawn.caption, "data": data})
    found = sentence(run)
    page = template(Path(__file__).with_name("report.html.jinja")).render(
        name=run.directory.resolve().name,
        sentence=found,
        rates=list(rate_rows(run)),
        facts=list(fact_rows(run)),
        later=later(run),
        notes=run.notes,
        plots=plots,
        smoothed=len(run.steps) > MANY_STEPS,
        examples=[_shown(one) for one in shown],
        config=run.config,
    )
    replace(out / "report.html", readable(page))
    return Written(page=out / "report.html", plots=tuple(paths), sentence=found)


def conversation(trajectory: Trajectory) -> Iterator[tuple[str, str]]:
    """(speaker, text) of the messages of a trajectory, long ones cut in the middle; its patch last.

    Text is what the policy and its commands wrote: the template must escape it.
    """
    for n, message in enumerate(trajectory.messages):
        if n == SHOWN_MESSAGES:
            yield "…", f"{len(trajectory.messages) - n} messages left out"
            break
        yield str(message.get("role", "?")), _cut("\n".join(_parts(message)))
    if trajectory.patch:
        yield "patch", _cut(trajectory.patch)
    if trajectory.error:
        yield "error", _cut(trajectory.error)


def _parts(message: dict[str, Any]) -> Iterator[str]:
    if message.get("reasoning_content"):
        yield f"(thinks) {message['reasoning_content']}"
    content = message.get("content")
    if content:
        yield content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    for call in message.get("tool_calls") or ():
        function = call.get("function", {})
        yield f"→ {function.get('name', '?')} {_arguments(function.get('arguments', ''))}"


def _arguments(text: Any) -> str:
    """Arguments of a call for a person: strings with their line breaks, one argument a line if there are several."""
    try:
        found = json.loads(text)
    except (TypeError, ValueError):
        return str(text)  # malformed: as the policy wrote it
    if not isinstance(found, dict):
        return str(text)
    shown = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in found.values()]
    if len(shown) == 1:
        return shown[0]
    return "".join(f"\n    {name}: {value}" for name, value in zip(found, shown, strict=True))


def _shown(example: Example) -> dict[str, Any]:
    one = example.trajectory
    turns = len(one.responses)
    tokens = sum(response.used.completion_tokens for response in one.responses)
    version = f", weight version {one.responses[-1].version}" if one.responses else ""
    title = (
        f"{example.what}: {one.task_id}, sample {one.sample}: {one.outcome}, {turns} turns, {tokens:,} tokens{version}"
    )
    return {"title": title, "messages": list(conversation(one))}


def _cut(text: str) -> str:
    if len(text) <= SHOWN_CHARACTERS:
        return text
    half = SHOWN_CHARACTERS // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters left out …]\n{text[-half:]}"


def _png(drawn: Drawn) -> bytes:
    buffer = io.BytesIO()
    drawn.figure.savefig(buffer, format="png", dpi=_DPI)
    return buffer.getvalue()
