"""The built-in sample: always the same ids, and text that reads like running text."""

from __future__ import annotations

import importlib.util
import re

import pytest

from embeddings.errors import InputError
from fixlm.corpus import builtin_text as sample
from fixlm.corpus import corpus


@pytest.fixture(scope="module")
def loaded() -> corpus.Corpus:
    return corpus.load("sample")


def test_it_is_always_the_same(loaded: corpus.Corpus) -> None:
    assert loaded.name == "sample"
    assert len(loaded) == 11438
    assert {k: len(v) for k, v in loaded.splits.items()} == {"train": 383853, "valid": 35238, "test": 32776}
    assert loaded.sha256 == "968b2a934a555fd0e9cd753d46ca0f4000d8616767c57598227285a50b72e69d"


def test_the_splits_are_of_the_sizes_promised(loaded: corpus.Corpus) -> None:
    total = sum(loaded.word_totals.values())
    assert 0.84 < loaded.word_totals["train"] / total < 0.88
    assert 0.06 < loaded.word_totals["valid"] / total < 0.08
    assert 0.06 < loaded.word_totals["test"] / total < 0.08


def test_rare_words_are_unk_in_all_splits(loaded: corpus.Corpus) -> None:
    assert loaded.counts.min() == sample.MINIMUM_COUNT
    unk = loaded.words.index("<unk>")
    shares = {split: (ids == unk).mean() for split, ids in loaded.splits.items()}
    assert shares["train"] < 0.075
    assert 0 < shares["valid"] < 0.13
    assert 0 < shares["test"] < 0.13


def test_it_reads_like_running_text(loaded: corpus.Corpus) -> None:
    lines = " ".join(loaded.words[i] for i in loaded.splits["train"]).split(" <eos> ")
    assert not [line for line in lines if re.search(r"[{}|=\[\]]{2}|''|&[a-z]+;|https?:|\( \)|\bthumb \|", line)]
    assert not [line for line in lines if line[0] in "*#:;|!="]
    ends = sum(line.rstrip("\"')] ")[-1] in ".!?" for line in lines)
    assert ends / len(lines) > 0.99
    assert any(line.startswith("Anarchism is a political philosophy that advocates") for line in lines)


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "'''Ada''' was ''born'' in the U.S. in 1,815.5 and wrote, self-taught, O'Brien's programs.",
            ["Ada was born in the U.S. in 1,815.5 and wrote , self-taught , O'Brien 's programs ."],
        ),
        (
            "==Life==\nShe lived in London until she died , at the age of 36 ( , ; ) there.\n"
            "* a list item that is long enough to be a paragraph by itself.\n"
            "==See also==\nThis is under a heading that is left out, with all of it.\n"
            "===Deeper===\nThis is a part of what is left out, and so is all of it.\n"
            "==After==\nThis comes back again since the heading is at the same level.",
            [
                "She lived in London until she died , at the age of 36 there .",
                "This comes back again since the heading is at the same level .",
            ],
        ),
        ("The line is broken in the midst of what it has to say\nand goes on here to its end.", None),
        ("A caption of a picture, without a full stop, however long it may be\n| a | b |\nToo short.", []),
        ("Where \ufffc is the energy, the mass of it is found by a division by the square.", []),
        ("where it begins in the middle, a paragraph is left out as it is only a part.", []),
    ],
)
def test_markup_is_cleaned_away(text: str, lines: list[str] | None) -> None:
    if lines is None:
        lines = [" ".join(text[:-1].split()) + " ."]
    assert [" ".join(tokens) for tokens in sample.running_text(text)] == lines


def test_words_of_templates_inside_sentences_are_kept() -> None:
    text = "{{convert|5|mi|km}} {{convert|2|to|3|ft|m|abbr=on}} {{lang|el|λόγος}} {{As of|2014}} {{nowrap|a b}}"
    assert sample.keep_templates(text) == "5 miles 2 to 3 feet λόγος As of 2014 a b"
    assert sample.keep_templates("x<ref name=a>y</ref> <math>z</math>") == "x \ufffc"


def test_a_gensim_without_its_test_data_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError) as caught:
        corpus.load("sample")
    assert str(caught.value) == (
        "--data sample: gensim is here without its test data, the sample's text. "
        "Fix: install gensim from PyPI, or give a folder: --data FOLDER"
    )
