"""Families and the chat templates that TRL keeps a copy of: the choice, and the prompts that both make."""

import importlib.util
import json
import tomllib
from datetime import date
from importlib.metadata import version
from pathlib import Path

import jinja2
import pytest
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from swe_aem.agent.families.builtin import FAMILIES
from swe_aem.agent.families.properties import TOOL
from swe_aem.agent.renderer import TurnRenderer
from swe_aem.agent.tools import SPECS
from swe_aem.errors import UserError
from swe_aem.policy.tokenizer import byte_level, load_tokenizer

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.find_spec("trl")
pytestmark = pytest.mark.skipif(SPEC is None, reason="needs the train extra")
TEMPLATES = Path((SPEC.submodule_search_locations or [""])[0] if SPEC else "") / "chat_templates"
KEPT = {
    "qwen3": "qwen3",
    "qwen3_instruct_2507": "qwen3",
    "qwen3_5_think": "qwen3.5",
    "qwen3_5_nothink": "qwen3.5",
    "qwen3_6": "qwen3.6",
    "qwen3_8": "qwen3.8",
    "glm4moe": "glm-4.5",
    "gptoss": "gpt-oss",
    "deepseekv3": "deepseek-r1",
    "nemotron_3_nano": "nemotron-3",
    "nemotron_3_super": "nemotron-3",
    "nemotron_3_ultra": "nemotron-3-ultra",
    "nemotron_3_5_lightning": "nemotron-3.5",
}
"""Name of a template, and its family."""

FIRST = [{"role": "system", "content": "Help."}, {"role": "user", "content": "Fix it."}]
CALLED = [
    {
        "role": "assistant",
        "content": "I look.",
        "tool_calls": [
            {
                "id": "call_1_0",
                "type": "function",
                "function": {"name": "act", "arguments": {"text": "  ls -la\n", "count": 5, "items": ["a"]}},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "call_1_0", "name": "act", "content": "a\n  b"},
]


def template_of(name):
    file = TEMPLATES / f"{name}.jinja"
    if not file.is_file() and version("trl") != locked("trl"):
        pytest.skip(f"this version of TRL keeps no {file.name}")
    return file.read_text()


def locked(package):
    """The version of a package that the project's lock file names."""
    packages = tomllib.loads((ROOT / "uv.lock").read_text())["package"]
    (found,) = {one["version"] for one in packages if one["name"] == package}
    return found


def model(tmp_path, tokens, template):
    byte_level(sorted(tokens)).save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "chat_template.jinja").write_text(template)
    return load_tokenizer(str(tmp_path))


def rendered(template, messages, tools):
    def refuse(message):
        raise jinja2.TemplateError(message)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: date.today().strftime(form)}
    return environment.from_string(template).render(
        messages=messages, tools=tools or None, add_generation_prompt=True, bos_token="<｜begin▁of▁sentence｜>"
    )


@pytest.mark.parametrize("name", KEPT)
def test_a_prompt_is_the_one_of_the_model_s_template(name, tmp_path):
    template = template_of(name)
    renderer = TurnRenderer(model(tmp_path, FAMILIES[KEPT[name]].tokens, template))
    assert renderer.family == KEPT[name]
    for tools in ([], [TOOL], SPECS) if renderer.describes_tools else ([],):
        prompt = renderer.tokenizer.decode(renderer.start(FIRST, tools))
        assert prompt == rendered(template, FIRST, tools)
    if not renderer.describes_tools:
        with pytest.raises(UserError, match="tells a model nothing of its tools"):
            renderer.start(FIRST, [TOOL])
        return
    after = renderer.tokenizer.decode(renderer.start([*FIRST, *CALLED], [TOOL]))
    said = rendered(template, [*FIRST, *CALLED], [TOOL])
    # gpt-oss's own encoder gives a tool's answer as it is, its template as a JSON string
    assert after == (said.replace(json.dumps("a\n  b"), "a\n  b") if name == "gptoss" else said)


@pytest.mark.parametrize("name", ["qwen2_5", "qwen3_vl", "llama3_2", "gemma4", "phi3", "cohere2"])
def test_another_family_s_template_is_refused(name, tmp_path):
    tokens = {token for family in FAMILIES.values() for token in family.tokens}
    with pytest.raises(UserError, match="but the chat format of none of these"):
        TurnRenderer(model(tmp_path, tokens, template_of(name)))
