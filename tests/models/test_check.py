"""`models check` on stand-in tokenizers: sound files pass, and each planted defect is a finding with what fixes it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from swe_aem.agent import RendererConfig, TurnRenderer
from swe_aem.agent.families.builtin import FAMILIES
from swe_aem.cli import main
from swe_aem.core.finding import Level
from swe_aem.errors import UserError
from swe_aem.models import check_model, require_fit
from swe_aem.models.chat_template import chat_template_of
from swe_aem.models.comparison import compare_first_prompts, compare_turns
from swe_aem.policy import load_tokenizer
from tests.models.test_llama_cpp_templates import COPIES

PUBLISHED = {
    "qwen3": ("qwen3",),
    "glm-4.5": ("glm4moe",),
    "gpt-oss": ("gptoss",),
    "nemotron-3": ("nemotron_3_nano", "nemotron_3_super"),
    "nemotron-3-ultra": ("nemotron_3_ultra",),
    "nemotron-3.5": ("nemotron_3_5_lightning",),
    "qwen3.5": ("qwen3_5_think",),
    "qwen3.6": ("qwen3_6",),
    "qwen3.8": ("qwen3_8",),
}
"""Families to chat templates of their models, by the names under which TRL ships them."""
TURNS_DIFFER = {"gpt-oss": "its template writes a tool's result as JSON text, and OpenAI's own encoder as it is"}


def of(findings, check):
    (found,) = [finding for finding in findings if finding.check == check]
    return found


def levels(findings):
    return {finding.check: finding.level for finding in findings}


def described(directory, file, **values):
    path = directory / file
    known = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(known | values))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_familys_stand_in_has_no_failure(model_of, family):
    findings = check_model(model_of(family), rounds=1)
    assert not [finding for finding in findings if finding.level is Level.FAIL]
    assert of(findings, "family").found.startswith(f"{family}: ")


@pytest.mark.contract(trl=True)
@pytest.mark.parametrize(("family", "name"), [(family, name) for family, names in PUBLISHED.items() for name in names])
def test_prompts_are_those_of_the_published_template(model_of, published, family, name):
    """First prompts id for id, and what follows a call and two calls too."""
    directory = model_of(family, published(name))
    renderer = TurnRenderer(load_tokenizer(str(directory)), RendererConfig(family=family))
    template = chat_template_of(renderer.tokenizer)
    assert template is not None
    assert not [found for found in compare_first_prompts(renderer, template) if found.difference]
    if family not in TURNS_DIFFER:
        assert not [found for found in compare_turns(renderer, template) if found.difference and not found.in_response]


def test_the_page_on_models_has_a_row_per_family_and_names_what_is_compared():
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([^`]+)` \|[^|]*\| ([^|]*) \|[^|]*\|$", page, re.MULTILINE))
    copies = {family: [f"{name}*" for name, of in COPIES.items() if of == family] for family in FAMILIES}
    assert rows == {family: ", ".join([*PUBLISHED.get(family, ()), *copies[family]]) or "none" for family in FAMILIES}


def test_where_the_template_drops_earlier_reasoning_the_response_stays_as_it_was_sampled(model_of, published):
    check = "next prompt after an answer and a user's message"
    found = of(check_model(model_of("qwen3", published("qwen3")), rounds=1), check)
    assert found.level is Level.OK
    assert "the response stays as it was sampled" in found.found
    config = RendererConfig(thinking="as_template")
    found = of(check_model(model_of("qwen3", published("qwen3")), config, rounds=1), check)
    assert found.found.endswith("tokens, the same as the chat template's")


def test_what_follows_a_response_in_another_form_is_told(model_of, published):
    other = published("qwen3").replace("<tool_response>\\n' }}", "<tool_response>' }}")
    assert other != published("qwen3")
    findings = levels(check_model(model_of("qwen3", other), rounds=1))
    assert findings["next prompt after a call and its result"] is Level.WARN
    assert findings["next prompt after an answer and a user's message"] is Level.OK


def test_another_first_prompt_fails_where_the_family_was_chosen_and_warns_where_it_was_named(model_of, published):
    directory = model_of("qwen3", published("qwen3").replace("# Tools", "# Functions"))
    check = "first prompt with tools"
    failed = of(check_model(directory, rounds=1), check)
    assert failed.level is Level.FAIL
    assert "'Tools" in failed.found
    assert "in the template 'Functions" in failed.found
    assert failed.fix.endswith(": --family qwen3")
    assert of(check_model(directory, RendererConfig(family="qwen3"), rounds=1), check).level is Level.WARN
    told = f"first prompt with tools.*--set renderer.family=qwen3.*swe-aem models check {directory}"
    with pytest.raises(UserError, match=told):
        require_fit(TurnRenderer(load_tokenizer(str(directory))))


def test_a_template_that_refuses_tools_and_a_missing_one_are_told_and_are_no_failure(model_of, published):
    directory = model_of("qwen3", "{% if tools %}{{ raise_exception('no tools') }}{% endif %}" + published("qwen3"))
    found = of(check_model(directory, rounds=1), "first prompt with tools")
    assert (found.level, "no tools" in found.found) == (Level.WARN, True)
    (directory / "chat_template.jinja").unlink()
    assert of(check_model(directory, rounds=1), "chat template").level is Level.WARN


def test_a_setting_of_the_chat_format_reaches_the_template(model_of, published):
    config = RendererConfig(enable_thinking=False)
    assert (
        of(check_model(model_of("qwen3", published("qwen3")), config, rounds=1), "first prompt with tools").level
        is Level.OK
    )


def test_a_tokenizer_with_more_ids_than_the_model_fails(model_of):
    directory = model_of("qwen3")
    described(directory, "config.json", vocab_size=260)
    found = of(check_model(directory, rounds=1), "vocabulary")
    assert found.level is Level.FAIL
    assert "260 ids" in found.found


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_stop_tokens_are_compared_with_the_models_own(model_of, file):
    directory = model_of("qwen3")
    tokenizer = load_tokenizer(str(directory))
    end, other = tokenizer.convert_tokens_to_ids("<|im_end|>"), tokenizer.convert_tokens_to_ids("</think>")
    for written, level in ((end, Level.OK), ([end, other], Level.WARN), (other, Level.FAIL), ([other], Level.FAIL)):
        described(directory, file, eos_token_id=written)
        assert of(check_model(directory, rounds=1), "stop tokens").level is level, written


def test_what_cannot_be_read_is_a_finding(model_of, tmp_path):
    directory = model_of("qwen3")
    (directory / "generation_config.json").write_text("{")
    assert levels(check_model(directory, rounds=1))["files"] is Level.FAIL
    with (directory / "chat_template.jinja").open("a") as template:
        template.write("{% if %}")
    assert levels(check_model(directory, rounds=1))["chat template"] is Level.WARN
    assert levels(check_model(tmp_path / "none")) == {"tokenizer": Level.FAIL}
    shutil.copy(directory / "tokenizer.json", tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text("{}")
    assert levels(check_model(tmp_path)) == {"tokenizer": Level.FAIL}
    assert levels(check_model(directory, RendererConfig(family="gpt-oss")))["family"] is Level.FAIL


def test_a_tokenizer_that_composes_accents_as_qwen3s_does_fits(model_of):
    from tokenizers import Tokenizer, normalizers

    directory = model_of("qwen3")
    backend = Tokenizer.from_file(str(directory / "tokenizer.json"))
    backend.normalizer = normalizers.NFC()
    backend.save(str(directory / "tokenizer.json"))
    assert Level.FAIL not in levels(check_model(directory, rounds=20)).values()


def test_a_family_of_ones_own_is_checked_like_a_built_in_one(model_of, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = (
        "from renderers.configs import Qwen3RendererConfig\n\n\ndef mine(config):\n    return Qwen3RendererConfig({})\n"
    )
    (tmp_path / "good.py").write_text(source.format('thinking_retention="all"'))
    (tmp_path / "bad.py").write_text(source.format('thinking_retention="tool_cycle"'))
    directory = model_of("qwen3")
    assert Level.FAIL not in levels(check_model(directory, RendererConfig(family="good.py:mine"), rounds=3)).values()
    assert Level.FAIL in levels(check_model(directory, RendererConfig(family="bad.py:mine"), rounds=3)).values()


def test_a_format_that_changes_what_was_sampled_fails(model_of, monkeypatch):
    whole = TurnRenderer.bridge
    monkeypatch.setattr(TurnRenderer, "bridge", lambda *args: (ids := whole(*args)) and [*ids[:5], 65, *ids[6:]])
    directory = model_of("qwen3")
    assert Level.FAIL in levels(check_model(directory, rounds=3)).values()
    with pytest.raises(UserError, match="cannot be used with this tokenizer"):
        require_fit(TurnRenderer(load_tokenizer(str(directory))))


def test_the_byte_tokenizer_is_nobodys_model(capsys):
    require_fit(TurnRenderer(load_tokenizer(None)))
    assert capsys.readouterr() == ("", "")


def command(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["swe-aem", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code


def test_the_command_prints_a_line_per_finding_and_says_by_its_exit_code_whether_one_failed(
    model_of, published, monkeypatch, capsys
):
    directory = model_of("qwen3", published("qwen3"))
    assert command(monkeypatch, "models", "check", directory, "--rounds", 2) == 0
    out = capsys.readouterr().out
    assert re.search(r"^ok +first prompt with tools +[\d,]+ tokens, the same", out, re.MULTILINE)
    assert out.endswith(f"{directory}: ready\n")
    described(directory, "config.json", vocab_size=260)
    assert command(monkeypatch, "models", "check", directory, "--rounds", 2, "--json") == 1
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [finding["check"] for finding in found if finding["level"] == "fail"] == ["vocabulary"]


def test_the_families_are_listed(monkeypatch, capsys):
    assert command(monkeypatch, "models", "ls") == 0
    assert capsys.readouterr().out.split() == list(FAMILIES)


@pytest.mark.parametrize("verb", ["rollout", "train"])
def test_a_run_with_a_model_that_does_not_fit_is_refused_before_anything_runs(
    model_of, monkeypatch, capsys, tmp_path, verb
):
    directory = model_of("qwen3")
    described(directory, "generation_config.json", eos_token_id=7)
    out = tmp_path / "out"
    if verb == "rollout":
        words = ["--tokenizer", directory, "--limit", 1, "--agent", "gold", "--out", out]
    else:
        config = tmp_path / "train.yaml"
        config.write_text(
            f"{{model: {directory}, steps: 1, groups_per_step: 1, rollout: {{tasks: micro, group_size: 2}}}}\n"
        )
        words = [config, "--out", out]
    assert command(monkeypatch, verb, *words) == 2
    assert "stop tokens: the model ends with" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["run.log"], "it says why"
