"""The built-in model families: what each format holds, how a model's is chosen, and how its calls are read."""

import json

import pytest

from swe_aem.agent.families import AUTO, MODEL_FAMILIES, choose_family
from swe_aem.agent.families.builtin import FAMILIES
from swe_aem.agent.families.calls import PROBLEMS
from swe_aem.agent.families.choose import choose
from swe_aem.agent.families.files import ModelFiles
from swe_aem.agent.families.properties import CHECKS, TOOL, Finding, check_properties, quick_check
from swe_aem.agent.renderer import RendererConfig, TurnRenderer
from swe_aem.errors import UserError
from swe_aem.policy.tokenizer import Tokenizer, byte_level, load_tokenizer
from swe_aem.testing.tokenizers import stand_in_tokenizer, write_stand_in

each_family = pytest.mark.parametrize("family", FAMILIES)


def renderer_of(family, **settings):
    return TurnRenderer(stand_in_tokenizer(family), RendererConfig(family=family, **settings))


def start(renderer):
    return renderer.start([{"role": "system", "content": "S"}, {"role": "user", "content": "fix it"}], [TOOL])


def added(renderer, prompt, ids, messages):
    """What a bridge adds to a prompt and a response; None if it is refused."""
    bridged = renderer.bridge(prompt, ids, messages)
    return None if bridged is None else renderer.tokenizer.decode(bridged[len(prompt) + len(ids) :])


def parsed(renderer, text):
    return renderer.parse(renderer.tokenizer.encode(text), start(renderer), [TOOL])


def test_the_registry_has_the_families_that_there_are():
    assert MODEL_FAMILIES.names[: len(FAMILIES) + 1] == (AUTO, *FAMILIES)
    for name, family in FAMILIES.items():
        assert MODEL_FAMILIES.find(name).value is family
        assert family.name == name


@each_family
def test_what_rollouts_rely_on_holds(family):
    findings = check_properties(renderer_of(family), rounds=3)
    assert findings == [Finding(check, None) for check in CHECKS]


@pytest.mark.nightly
@each_family
@pytest.mark.parametrize("thinking", [True, False, None])
def test_what_rollouts_rely_on_holds_on_many_conversations(family, thinking):
    try:
        renderer = renderer_of(family, enable_thinking=thinking)
    except UserError:
        pytest.skip("the family cannot switch its thinking")
    assert check_properties(renderer, rounds=60, seed=1) == [Finding(check, None) for check in CHECKS]


def test_a_format_that_breaks_is_found(monkeypatch):
    renderer = renderer_of("qwen3")
    whole = renderer.bridge
    monkeypatch.setattr(renderer, "bridge", lambda *args: [0, *(whole(*args) or ())])
    broken = [finding.check for finding in quick_check(renderer) if finding.problem]
    assert "each prompt extends the last one exactly" in broken
    assert "calls are read back" not in broken


@each_family
def test_a_model_s_family_is_chosen_from_its_files(family, tmp_path):
    directory = write_stand_in(family, tmp_path / "model")
    assert choose_family(directory).family == family
    renderer = TurnRenderer(load_tokenizer(str(directory)))
    assert (renderer.family, renderer.config.family) == (family, AUTO)
    if FAMILIES[family].models:
        (directory / "chat_template.jinja").unlink()
        assert choose_family(directory).family == family
        assert "no chat template" in choose_family(directory).reason


@pytest.mark.parametrize("where", ["chat_template.jinja", "chat_template.json", "tokenizer_config.json", "named"])
def test_a_chat_template_is_found_wherever_models_have_it(where, tmp_path):
    write_stand_in("qwen3-coder", tmp_path)
    template = (tmp_path / "chat_template.jinja").read_text()
    if where != "chat_template.jinja":
        (tmp_path / "chat_template.jinja").unlink()
        named = [{"name": "default", "template": "no"}, {"name": "tool_use", "template": template}]
        file = "tokenizer_config.json" if where == "named" else where
        (tmp_path / file).write_text(json.dumps({"chat_template": named if where == "named" else template}))
    assert choose_family(tmp_path).family == "qwen3-coder"


def test_the_built_in_tokenizer_and_unknown_architectures_are_of_qwen3():
    assert choose_family(None).family == "qwen3"
    files = ModelFiles(tokens=frozenset(FAMILIES["qwen3"].tokens), model_type="llama", architecture="LlamaForCausalLM")
    assert choose(files, "m") == (
        "qwen3",
        "its control tokens; it has no chat template, and architecture LlamaForCausalLM",
    )


@pytest.mark.parametrize(
    ("files", "told"),
    [
        (ModelFiles(), "its tokenizer has no control tokens"),
        (
            ModelFiles(tokens=frozenset({"<|im_start|>", "<|im_end|>"}), model_type="qwen3"),
            r"of qwen3 its tokenizer lacks the control tokens <\|endoftext\|>, <tool_call>, .* and 3 more",
        ),
        (
            ModelFiles(tokens=frozenset(FAMILIES["qwen3"].tokens), template="{{ messages }}", architecture="X"),
            r"the control tokens of qwen3, .*but the chat format of none of these \(architecture X, a chat template\)",
        ),
        (
            ModelFiles(
                tokens=frozenset(FAMILIES["qwen3"].tokens),
                template="".join([*FAMILIES["qwen3-coder"].template, *FAMILIES["nemotron-3"].template]),
            ),
            "more than one model family fits models/mine: qwen3-coder, nemotron-3",
        ),
    ],
)
def test_a_model_of_no_family_is_refused_with_what_was_seen(files, told):
    with pytest.raises(UserError, match=told) as refused:
        choose(files, "models/mine")
    assert "models/mine" in str(refused.value)
    assert "--set renderer.family=NAME" in str(refused.value)
    assert "swe-aem models check DIR" in str(refused.value)


def test_settings_that_a_family_does_not_have_are_refused():
    with pytest.raises(UserError, match=r"gpt-oss always thinks: leave renderer\.enable_thinking out"):
        renderer_of("gpt-oss", enable_thinking=False)
    with pytest.raises(UserError, match="qwen3-coder does not think"):
        renderer_of("qwen3-coder", enable_thinking=True)
    with pytest.raises(UserError, match="gpt-oss has one of low, medium, high"):
        renderer_of("gpt-oss", reasoning_effort="max")
    with pytest.raises(UserError, match="qwen3 has no levels of it"):
        renderer_of("qwen3", reasoning_effort="low")
    prompt = renderer_of("gpt-oss", reasoning_effort="high")
    assert "Reasoning: high\n" in prompt.tokenizer.decode(start(prompt))


def test_small_qwen3_5_models_think_only_when_asked_to(tmp_path):
    directory = write_stand_in("qwen3.5", tmp_path)
    template = directory / "chat_template.jinja"
    thinks = TurnRenderer(load_tokenizer(str(directory)))
    assert thinks.tokenizer.decode(start(thinks)).endswith("assistant\n<think>\n")
    template.write_text(template.read_text() + "{# enable_thinking is defined and enable_thinking is true #}")
    small = TurnRenderer(load_tokenizer(str(directory)))
    assert small.tokenizer.decode(start(small)).endswith("assistant\n<think>\n\n</think>\n\n")
    asked = TurnRenderer(load_tokenizer(str(directory)), RendererConfig(enable_thinking=True))
    assert asked.tokenizer.decode(start(asked)).endswith("assistant\n<think>\n")


# A call of each way of writing one, with places for the name, a text and a number.
WRITTEN = {
    "qwen3-coder": (
        "<tool_call>\n<function={name}>\n<parameter=text>\n{text}\n</parameter>\n<parameter=count>\n{count}\n"
        "</parameter>\n</function>\n</tool_call><|im_end|>"
    ),
    "glm-4.5": (
        "<think></think><tool_call>{name}\n<arg_key>text</arg_key>\n<arg_value>{text}</arg_value>\n"
        "<arg_key>count</arg_key>\n<arg_value>{count}</arg_value>\n</tool_call><|observation|>"
    ),
    "minimax-m2": (
        '</think>\n<minimax:tool_call>\n<invoke name="{name}">\n<parameter name="text">{text}</parameter>\n'
        '<parameter name="count">{count}</parameter>\n</invoke>\n</minimax:tool_call>[e~['
    ),
}
each_way = pytest.mark.parametrize("family", WRITTEN)


@each_way
@pytest.mark.parametrize(
    "text", ["    return x", "x\n\n", "\tif a:\n\t\tb", "true", "5", "null", '{"a": 1}', "", "a < b > c"]
)
def test_text_between_tags_keeps_its_white_space_and_is_text(family, text):
    (call,) = parsed(renderer_of(family), WRITTEN[family].format(name="act", text=text, count=5)).calls
    assert (call.problem, call.arguments) == (None, {"text": text, "count": 5})


@each_way
def test_what_is_no_number_is_left_to_the_tool(family):
    (call,) = parsed(renderer_of(family), WRITTEN[family].format(name="act", text="", count="many")).calls
    assert call.arguments == {"text": "", "count": "many"}


@each_way
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("act", ""), PROBLEMS["missing_name"]),
        (("act", "a b"), "not a plain word"),
        (("count", "text"), "text comes twice"),
        (("LAST", ""), PROBLEMS["malformed_structure"]),
        (("FIRST", "</b>"), PROBLEMS["malformed_structure"]),
    ],
)
def test_a_call_between_tags_that_is_not_whole_is_malformed(family, change, problem):
    text = WRITTEN[family].format(name="act", text="x", count=5)
    last = "</arg_value>" if family == "glm-4.5" else "</parameter>"
    first = "<arg_key>" if family == "glm-4.5" else "<parameter"
    was, becomes = change
    if was == "LAST":
        text = becomes.join(text.rsplit(last, 1))
    elif was == "FIRST":
        text = text.replace(first, becomes + first, 1)
    else:
        text = text.replace(was, becomes)
    (call,) = parsed(renderer_of(family), text).calls
    assert problem in (call.problem or "")


@each_way
def test_a_call_between_tags_that_is_cut_off_is_unclosed(family):
    text = WRITTEN[family].format(name="act", text="x", count=5)
    (call,) = parsed(renderer_of(family), text[: text.index("count")]).calls
    assert call.unclosed


def test_a_block_of_minimax_may_hold_calls_and_something_that_is_none():
    invoke = '<invoke name="act">\n<parameter name="text">{}</parameter>\n</invoke>\n'
    block = f"</think><minimax:tool_call>\n{invoke.format('a')}{invoke.format('b')}{{}}</minimax:tool_call>[e~["
    renderer = renderer_of("minimax-m2")
    assert [call.arguments for call in parsed(renderer, block.format("")).calls] == [{"text": "a"}, {"text": "b"}]
    assert [bool(call.problem) for call in parsed(renderer, block.format("and so on")).calls] == [False, True]


def test_an_answer_has_the_id_that_kimi_gave_its_call():
    renderer = renderer_of("kimi-k2")
    said = "<|tool_calls_section_begin|>" + "".join(
        f"<|tool_call_begin|>functions.act:{n}<|tool_call_argument_begin|>{{}}<|tool_call_end|>" for n in (7, 8)
    )
    ids = renderer.tokenizer.encode(f"{said}<|tool_calls_section_end|><|im_end|>")
    answers = [{"role": "tool", "tool_call_id": f"call_3_{n}", "content": f"out{n}"} for n in range(2)]
    text = added(renderer, start(renderer), ids, answers) or ""
    assert "## Return of functions.act:7\nout0" in text
    assert "## Return of functions.act:8\nout1" in text


HARMONY = "<|channel|>analysis<|message|>I look.<|end|><|start|>assistant"


def test_a_call_of_gpt_oss_is_answered_by_its_name():
    renderer = renderer_of("gpt-oss")
    text = HARMONY + '<|channel|>commentary to=functions.act <|constrain|>json<|message|>{"text": "ls"}<|call|>'
    turn = parsed(renderer, text)
    assert (turn.reasoning, turn.content, [call.arguments for call in turn.calls]) == ("I look.", "", [{"text": "ls"}])
    ids = renderer.tokenizer.encode(text)
    assert added(renderer, start(renderer), ids, [{"role": "tool", "content": "a\nb"}]) == (
        "<|start|>functions.act to=assistant<|channel|>commentary<|message|>a\nb<|end|><|start|>assistant"
    )


@pytest.mark.parametrize(
    ("cut", "closes"),
    [
        ("<|channel|>analysis<|message|>I lo", "<|end|>"),
        ("<|channel|>analysis<|message|>I look.<|end|>", ""),
        (HARMONY + "<|channel|>final<|message|>Don", "<|end|>"),
        (HARMONY + "<|channel|>final<|message|>Done.<|return|>", ""),
        (HARMONY, None),
        (HARMONY + "<|channel|>fin", None),
        (HARMONY + "<|channel|>final<|message|>Done.<|return|>more", None),
    ],
)
def test_a_response_of_gpt_oss_is_closed_where_it_was_cut_off(cut, closes):
    renderer = renderer_of("gpt-oss")
    text = added(renderer, start(renderer), renderer.tokenizer.encode(cut), [{"role": "user", "content": "more"}])
    assert text == (None if closes is None else f"{closes}<|start|>user<|message|>more<|end|><|start|>assistant")


def test_a_cut_off_call_of_gpt_oss_is_unclosed():
    text = HARMONY + '<|channel|>commentary to=functions.act <|constrain|>json<|message|>{"text": "l'
    (call,) = parsed(renderer_of("gpt-oss"), text).calls
    assert (call.unclosed, call.raw) == (True, '{"text": "l')


def test_an_unfit_tokenizer_is_a_user_error():
    tokenizer = Tokenizer(byte_level(["<|im_start|>"]), "mine")
    for family in FAMILIES:
        with pytest.raises(UserError, match=f"'mine' does not fit the family '{family}'"):
            TurnRenderer(tokenizer, RendererConfig(family=family))
