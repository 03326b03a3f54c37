"""`ChatTemplate` writes what transformers writes."""

import json
import shutil

import pytest

from swe_aem.agent.tools import SPECS
from swe_aem.errors import UserError
from swe_aem.models.chat_template import TemplateRefused, chat_template_of
from swe_aem.policy import load_tokenizer
from swe_aem.testing.tokenizers import write_stand_in

CALL = {"id": "call_0_0", "type": "function", "function": {"name": "bash", "arguments": {"command": "ls <a> & é"}}}
CONVERSATION = [
    {"role": "system", "content": "S"},
    {"role": "user", "content": "Fix <b> & “that”\n"},
    {"role": "assistant", "content": "So", "reasoning_content": "Hm", "thinking": "Hm", "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "call_0_0", "name": "bash", "content": "x.py"},
]
TOKENS = {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False}, "pad_token": None}


def described(directory, **values):
    """The chat template that a directory has, whose tokenizer_config.json has these values."""
    write_stand_in("qwen3", directory / "model")
    shutil.copy(directory / "model" / "tokenizer.json", directory)
    (directory / "tokenizer_config.json").write_text(json.dumps(TOKENS | values), encoding="utf-8")
    template = chat_template_of(load_tokenizer(str(directory)))
    assert template is not None
    return template


@pytest.mark.contract(trl=True, transformers=True)
def test_every_published_template_is_rendered_as_transformers_renders_it(tmp_path, published):
    pytest.importorskip("transformers", reason="needs the transformers extra")
    from transformers.utils.chat_template_utils import render_jinja_template

    names = ("qwen3", "qwen3_6", "glm4moe", "gptoss", "deepseekv3", "nemotron_3_nano", "qwen3_training", "llama3_1")
    for name in names:
        switches = {"bos_token": "<s>", "eos_token": "</s>", "enable_thinking": False}
        try:
            (theirs,), _ = render_jinja_template(
                [CONVERSATION], tools=list(SPECS), chat_template=published(name), add_generation_prompt=True, **switches
            )
        except Exception as error:  # a template's own
            theirs = type(error)
        (tmp_path / "chat_template.jinja").write_text(published(name), encoding="utf-8")
        ours = described(tmp_path)
        if isinstance(theirs, str):
            assert ours.render(CONVERSATION, SPECS, enable_thinking=False) == theirs, name
        else:
            with pytest.raises(TemplateRefused):
                ours.render(CONVERSATION, SPECS, enable_thinking=False)


def test_of_several_templates_the_one_for_tools_is_taken_and_special_tokens_are_known(tmp_path):
    source = "{{ bos_token }}{{ eos_token }}{{ pad_token }}|"
    several = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": source}]
    assert described(tmp_path, chat_template=several).render([]) == "<s></s>|"


def test_a_model_without_a_template_has_none(tmp_path):
    with pytest.raises(AssertionError):
        described(tmp_path)
    assert chat_template_of(load_tokenizer(None)) is None


@pytest.mark.parametrize(
    "source", ["{{ raise_exception('no tools') }}", "{{ messages[7].role.x }}", "{{ 1 / 0 }}", "\n"]
)
def test_a_template_that_raises_or_writes_nothing_refuses(tmp_path, source):
    with pytest.raises(TemplateRefused):
        described(tmp_path, chat_template=source).render([])


@pytest.mark.parametrize("source", ["{% if %}", "{{ messages.__class__.__mro__[1].__subclasses__() }}"])
def test_a_template_is_read_in_a_sandbox_and_an_unreadable_one_names_its_file(tmp_path, source):
    with pytest.raises((UserError, TemplateRefused), match=r"no chat template that Jinja can read|unsafe"):
        described(tmp_path, chat_template=source).render([])
