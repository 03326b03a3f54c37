"""Hygiene beside every gold patch and test patch of the real data sets: the first pass whole, the others not at all."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from swe_aem.grading import Delta, clean_delta
from swe_aem.grading.delta import FILE, Blob, Change
from swe_aem.grading.diff import parse_diff
from swe_aem.tasks import load_tasks

SETS = {"verified": 500, "lite": 300, "multilingual": 299, "multimodal_dev": 102}


@pytest.mark.parametrize(("name", "count"), SETS.items())
def test_no_gold_patch_loses_anything_and_no_test_patch_gets_in(dataset_rows: Path, name: str, count: int) -> None:
    records = load_tasks(str(dataset_rows / f"{name}.parquet")).records
    assert len(records) == count
    for record in records:
        gold = clean_delta(delta_of(record.key.gold_patch), record.key)
        assert (gold.refused, gold.integrity) == ((), ()), record.task.id
        tests = clean_delta(delta_of(record.key.test_patch), record.key)
        assert (tests.accepted, tests.integrity) == ((), ()), record.task.id


@pytest.mark.parametrize(("name", "count"), {"verified": 1, "lite": 0, "multilingual": 6, "multimodal_dev": 4}.items())
def test_few_solutions_would_lose_a_file_if_the_gold_were_another(dataset_rows: Path, name: str, count: int) -> None:
    """A policy may find the same solution where the gold patch is another: what hygiene would then leave out."""
    other = "diff --git a/zz b/zz\n--- a/zz\n+++ b/zz\n@@ -1 +1 @@\n-a\n+b\n"
    records = load_tasks(str(dataset_rows / f"{name}.parquet")).records
    lost = [
        record.task.id
        for record in records
        if clean_delta(delta_of(record.key.gold_patch), record.key.model_copy(update={"gold_patch": other})).refused
    ]
    assert len(lost) == count, lost


def delta_of(patch: str) -> Delta:
    """The delta of a patch, with what the patch shows of each file as its content."""
    texts = [text for text in re.split(r"^(?=diff --git )", patch, flags=re.MULTILINE) if text.startswith("diff ")]
    changes = []
    for section, text in zip(parse_diff(patch), texts, strict=True):
        old, new = ("".join(_side(text, sign)).encode() for sign in "-+")
        for path in section.paths:
            before = Blob(FILE, old) if path == section.old_path and not section.is_copy else None
            changes.append(Change(path, before, Blob(FILE, new) if path == section.new_path else None))
    return Delta(tuple(changes))


def _side(text: str, sign: str) -> Iterator[str]:
    """The lines of one side of a file's hunks."""
    _, *hunks = re.split(r"^@@ .*\n", text, flags=re.MULTILINE)
    for line in "".join(hunks).split("\n"):
        if line[:1] in (" ", sign):
            yield f"{line[1:]}\n"
