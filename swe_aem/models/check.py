"""`check_model`: do a model's own files fit the chat format that rollouts would use?

Each finding is one line. A format that does not hold its properties cannot be used at all. A first prompt that is not
what the chat template writes is refused where the format was chosen from the files, and is only told where a setting
named it.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from swe_aem.agent import RendererConfig, TurnRenderer
from swe_aem.agent.families.properties import Finding as Property
from swe_aem.agent.families.properties import check_properties, quick_check
from swe_aem.core.finding import Finding, Level, fail, ok, warn
from swe_aem.errors import UserError
from swe_aem.models.chat_template import chat_template_of
from swe_aem.models.comparison import Comparison, compare_first_prompt, compare_first_prompts, compare_turns
from swe_aem.models.files import end_tokens, vocabulary_size
from swe_aem.policy import load_tokenizer
from swe_aem.runlog import tell

_SETTING, _OPTION = "--set renderer.family=", "--family "
"""How a family is named for a run, and for this check."""
_NAME_IT = f"name a family that fits, or this one to use it all the same: {_SETTING}{{family}}"


def check_model(
    path: Path | str, config: RendererConfig | None = None, *, rounds: int = 20, seed: int = 0
) -> list[Finding]:
    """Every finding about the model directory, or the tokenizer.json, at `path`.

    What is said of a family's name is for `swe-aem models check`. `rounds` random conversations from `seed` are played
    per property. Nothing of the model but its small files is read, and nothing is raised: what cannot be read is a
    finding too.
    """
    return [_of_the_check(finding) for finding in _findings(path, config, rounds, seed)]


def _of_the_check(finding: Finding) -> Finding:
    """The finding with the option of the check where it names the setting of a run."""
    said = {"found": finding.found.replace(_SETTING, _OPTION), "fix": finding.fix.replace(_SETTING, _OPTION)}
    return finding.model_copy(update=said)


def _findings(path: Path | str, config: RendererConfig | None, rounds: int, seed: int) -> list[Finding]:
    try:
        tokenizer = load_tokenizer(str(path))
    except UserError as error:
        return [fail("tokenizer", str(error), "name a directory with the model's tokenizer.json")]
    found = [ok("tokenizer", f"{len(tokenizer):,} ids, {len(tokenizer.control_token_ids)} of them control tokens")]
    try:
        renderer = TurnRenderer(tokenizer, config)
    except UserError as error:
        return [*found, fail("family", str(error), "`swe-aem docs models` lists them and what each is chosen by")]
    reason = renderer.choice.reason if renderer.choice is not None else "named by the settings"
    found.append(ok("family", f"{renderer.family}: {reason}"))
    found += _files(renderer)
    found += _of_template(renderer)
    return [*found, *_of_properties(renderer, check_properties(renderer, rounds=rounds, seed=seed))]


def require_fit(renderer: TurnRenderer) -> None:
    """What takes a second of `check_model`, at the start of a run. Raises `UserError` with the first failure; tells
    what is only to be known on stderr. A tokenizer without a file is nobody's model: nothing is checked."""
    path = renderer.tokenizer.name_or_path
    if renderer.tokenizer.file is None:
        return
    for finding in [*_files(renderer), *_of_first_prompt(renderer), *_of_properties(renderer, quick_check(renderer))]:
        line = f"{path}: {finding.check}: {finding.found}; {finding.fix}. All findings: swe-aem models check {path}"
        if finding.level is Level.FAIL:
            raise UserError(line)
        if finding.level is Level.WARN:
            tell(line)


def _files(renderer: TurnRenderer) -> Iterator[Finding]:
    directory = _directory(renderer)
    try:
        yield from _vocabulary(renderer, vocabulary_size(directory))
        yield from _stops(renderer, directory)
    except UserError as error:
        yield fail("files", str(error), "copy the model's files again")


def _vocabulary(renderer: TurnRenderer, rows: int | None) -> Iterator[Finding]:
    if rows is None:
        return
    highest = max(len(renderer.tokenizer) - 1, *renderer.tokenizer.control_token_ids)
    if highest >= rows:
        yield fail(
            "vocabulary",
            f"the tokenizer has the id {highest}, and the model {rows} ids (vocab_size in config.json)",
            "use the tokenizer that the model was saved with",
        )
    else:
        yield ok("vocabulary", f"{rows:,} ids in the model, {highest + 1:,} in the tokenizer")


def _stops(renderer: TurnRenderer, directory: Path) -> Iterator[Finding]:
    ends, stops = end_tokens(directory), renderer.stop_token_ids
    listed = _tokens(renderer, stops)
    if not ends.ids:
        yield ok("stop tokens", f"{listed}; the model's files name none")
    elif not set(ends.ids) & set(stops):
        yield fail(
            "stop tokens",
            f"the model ends with {_tokens(renderer, ends.ids)} ({ends.file}), and the family {renderer.family} "
            f"with {listed}",
            _NAME_IT.format(family=renderer.family) if renderer.choice is not None else "name a family that fits",
        )
    elif other := [one for one in ends.ids if one not in stops]:
        yield warn(
            "stop tokens",
            f"{listed}; {ends.file} also has {_tokens(renderer, other)}, which ends no response here",
            "nothing is to be done unless responses run on to their limit",
        )
    else:
        yield ok("stop tokens", f"{listed}, as in {ends.file}")


def _tokens(renderer: TurnRenderer, ids: Iterable[int]) -> str:
    return ", ".join(renderer.tokenizer.decode([one]) or f"the id {one}" for one in ids)


def _of_first_prompt(renderer: TurnRenderer) -> Iterator[Finding]:
    """The native agent's first prompt beside the template's; nothing where the model has no template."""
    try:
        template = chat_template_of(renderer.tokenizer)
        if template is not None:
            compared = compare_first_prompt(renderer, template)
            yield _finding(renderer, compared, strict=renderer.template_has_tools)
    except UserError as error:
        yield _not_compared(error)


def _of_template(renderer: TurnRenderer) -> Iterator[Finding]:
    try:
        template = chat_template_of(renderer.tokenizer)
        if template is None:
            yield warn(
                "chat template",
                f"none in {_directory(renderer)}: prompts are compared with nothing",
                "copy the model's chat_template.jinja there",
            )
            return
        for compared in compare_first_prompts(renderer, template):
            yield _finding(renderer, compared, strict=compared.name == "with tools" and renderer.template_has_tools)
        for compared in compare_turns(renderer, template):
            yield _turn(compared)
    except UserError as error:
        yield _not_compared(error)


def _directory(renderer: TurnRenderer) -> Path:
    """Where the files of the model are."""
    assert renderer.tokenizer.file is not None
    return renderer.tokenizer.file.parent


def _not_compared(error: UserError) -> Finding:
    return warn("chat template", f"it cannot be compared: {error}", "check that it is the model's own")


def _finding(renderer: TurnRenderer, compared: Comparison, *, strict: bool) -> Finding:
    check = f"first prompt {compared.name}"
    if compared.difference is None:
        return ok(check, f"{compared.tokens:,} tokens, the same as the chat template's")
    found = f"not as the chat template has it: {compared.difference}"
    if strict and renderer.choice is not None and not compared.refused:
        return fail(check, found, _NAME_IT.format(family=renderer.family))
    return warn(check, found, "the model may have been trained on the other form")


def _turn(compared: Comparison) -> Finding:
    check = f"next prompt after {compared.name}"
    if compared.difference is None:
        return ok(check, f"{compared.tokens:,} tokens, the same as the chat template's")
    if compared.in_response:
        found = "what follows the response is the same as the chat template's; the response stays as it was sampled"
        return ok(check, found)
    found = f"not as the chat template has it: {compared.difference}"
    return warn(check, found, "nothing is to be done: the conversation continues as it was sampled")


def _of_properties(renderer: TurnRenderer, found: Iterable[Property]) -> Iterator[Finding]:
    for check, problem in found:
        if problem is None:
            yield ok(check, "holds")
        else:
            yield fail(check, problem, f"the family {renderer.family} cannot be used with this tokenizer")
