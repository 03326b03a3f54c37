"""A tokenizer's fingerprint: the same however a file spells the tokenizer, another for any other ids."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swe_aem.errors import UserError
from swe_aem.policy import load_tokenizer, tokenizer_fingerprint

QUICKSTART = Path("configs/quickstart/policy")
QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizers split text."""
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def changed(tmp_path: Path) -> Callable[[Change], str]:
    """The fingerprint of a byte-level tokenizer like Qwen's, with a change of its file."""

    def changed(change: Change) -> str:
        content = qwen()
        change(content)
        return fingerprint_of(content, tmp_path)

    return changed


def fingerprint_of(content: dict[str, Any], directory: Path) -> str:
    (directory / "tokenizer.json").write_text(json.dumps(content))
    return tokenizer_fingerprint(str(directory))


def qwen() -> dict[str, Any]:
    """A `tokenizer.json` that is laid out as those of Qwen on the hub, with a few merges."""
    content = json.loads((QUICKSTART / "tokenizer.json").read_text())
    vocabulary = {token: n for n, token in enumerate(sorted(content["model"]["vocab"], key=len)[:256])}
    merges = [
        "i n",
        "t h",
        "th e",
        "e r",
        "\u0120 i",
        "\u0120 the",
        "1 2",
        "' s",
        "\u010a \u010a",
        "> \u010a",
        "in the",
    ]
    for pair in merges:
        vocabulary[pair.replace(" ", "")] = len(vocabulary)
    vocabulary["zq"] = len(vocabulary)  # no merge makes it
    split = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": len(vocabulary) + n, "content": name, **added} for n, name in enumerate(names)],
        "normalizer": {"type": "NFC"},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
        "post_processor": level,
        "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "vocab": vocabulary,
                  "merges": merges},
    }  # fmt: skip


def settings(content: dict[str, Any], part: str) -> dict[str, Any]:
    """The settings of `Split` or `ByteLevel` among the pre-tokenisers."""
    return next(one for one in content["pre_tokenizer"]["pretokenizers"] if one["type"] == part)


def test_two_tokenizers_differ() -> None:
    found = {tokenizer_fingerprint(path) for path in (None, str(QUICKSTART))}
    assert len(found) == 2
    assert all(len(one) == 16 for one in found)


def test_a_directory_and_its_file_are_one_tokenizer() -> None:
    assert tokenizer_fingerprint(str(QUICKSTART)) == tokenizer_fingerprint(str(QUICKSTART / "tokenizer.json"))


def test_fingerprints_of_earlier_stores_stay_valid(tmp_path: Path) -> None:
    """Another version of a library or of this code that changes them would refuse every store."""
    assert tokenizer_fingerprint(None) == "eb519e85ec5aef34"
    assert tokenizer_fingerprint("tests/data/format-3/policy") == "174e6cbfd59ebbc5"
    assert fingerprint_of(qwen(), tmp_path) == "52578b2a4e949ce5"


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.update(truncation={"direction": "Right", "max_length": 4, "strategy": "LongestFirst",
                                           "stride": 0}),
        lambda one: one.update(padding={"strategy": {"Fixed": 9000}, "direction": "Left", "pad_to_multiple_of": None,
                                        "pad_id": 0, "pad_type_id": 0, "pad_token": "!"}),
        lambda one: one.update(decoder=None, post_processor=None),
        lambda one: one["model"].update(merges=[pair.split(" ") for pair in one["model"]["merges"]]),
        lambda one: one["model"].update(continuing_subword_prefix=None, end_of_word_suffix=None, ignore_merges=False),
        lambda one: one["model"].update(dropout=0.5),
        lambda one: settings(one, "ByteLevel").update(trim_offsets=True),
        lambda one: one["added_tokens"][0].update(special=False),
        lambda one: one.update(model={name: one["model"][name] for name in reversed(one["model"])}),
    ],
)  # fmt: skip
def test_what_does_not_decide_ids_makes_no_difference(changed: Callable[[Change], str], change: Change) -> None:
    assert changed(change) == changed(lambda one: None)


def swap(content: dict[str, Any], first: str, second: str) -> None:
    """Exchange the ids of two tokens."""
    vocabulary = content["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


@pytest.mark.parametrize(
    "change",
    [
        lambda one: swap(one, "a", "b"),
        lambda one: swap(one, "\u00a8", "\u00a9"),
        lambda one: one["model"].update(merges=[*one["model"]["merges"][1::-1], *one["model"]["merges"][2:]]),
        lambda one: one["model"].update(merges=one["model"]["merges"][:-1]),
        lambda one: one["model"].update(ignore_merges=True),
        lambda one: one.update(normalizer=None),
        lambda one: one.update(normalizer={"type": "NFKC"}),
        lambda one: one.update(normalizer={"type": "Lowercase"}),
        lambda one: one.update(normalizer={"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Strip",
                               "strip_left": True, "strip_right": True}]}),
        lambda one: settings(one, "ByteLevel").update(add_prefix_space=True),
        lambda one: settings(one, "ByteLevel").update(use_regex=True),
        lambda one: settings(one, "Split").update(pattern={"Regex": QWEN2.replace(r"\p{N}|", r"\p{N}{1,3}|")}),
        lambda one: settings(one, "Split").update(pattern={"Regex": QWEN2.replace(r"[\r\n]*|", "|")}),
        lambda one: one["added_tokens"].pop(),
        lambda one: one["added_tokens"][0].update(content="<|end|>"),
        lambda one: one["added_tokens"][0].update(lstrip=True),
        lambda one: one["added_tokens"][0].update(normalized=True),
    ],
)  # fmt: skip
def test_what_decides_ids_makes_another_fingerprint(changed: Callable[[Change], str], change: Change) -> None:
    assert changed(change) != changed(lambda one: None)


@pytest.mark.contract(transformers=True)
def test_a_tokenizer_is_the_same_after_transformers_has_saved_it(tmp_path: Path) -> None:
    """It builds a tokenizer of a known class anew, and spells it otherwise."""
    transformers = pytest.importorskip("transformers", reason="needs the transformers extra")
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    (before / "tokenizer.json").write_text(json.dumps(qwen()))
    described = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}
    (before / "tokenizer_config.json").write_text(json.dumps({**described, "unk_token": None, "bos_token": None}))
    tokenizer = transformers.AutoTokenizer.from_pretrained(before)
    tokenizer(["a b", "c"], truncation=True, max_length=1, padding=True)  # which it saves too
    tokenizer.save_pretrained(after)
    assert json.loads((after / "tokenizer.json").read_text()) != qwen()
    assert tokenizer_fingerprint(str(after)) == tokenizer_fingerprint(str(before))


def test_a_file_that_is_replaced_under_its_name_is_read_again(tmp_path: Path) -> None:
    first = fingerprint_of(qwen(), tmp_path)
    content = qwen()
    swap(content, "a", "b")
    assert fingerprint_of(content, tmp_path) != first


def test_a_text_is_neither_cut_nor_filled_up(tmp_path: Path) -> None:
    cut = {"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0}
    (tmp_path / "tokenizer.json").write_text(json.dumps({**qwen(), "truncation": cut}))
    assert len(load_tokenizer(str(tmp_path)).encode("abcdefgh")) == 8


def test_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no tokenizer\.json there"):
        tokenizer_fingerprint(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="not a tokenizer that the tokenizers library can read"):
        tokenizer_fingerprint(str(tmp_path))
