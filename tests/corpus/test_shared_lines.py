"""Lines that valid or test share with train: when a user is warned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fixlm.corpus import corpus
from fixlm.corpus.shared_lines import MINIMUM_SHARE, MINIMUM_TOKENS, warnings_of_shared_lines

EOS = 0


def ids(*lines: list[int]) -> np.ndarray:
    return np.array([i for line in lines for i in [*line, EOS]], dtype=np.int32)


def line(first: int, length: int = MINIMUM_TOKENS) -> list[int]:
    """No two lines with different first ids are alike."""
    return [first, *range(1, length)]


def warned(**splits: np.ndarray) -> list[str]:
    train = ids(*(line(i) for i in range(100, 200)), line(50, 3))
    return warnings_of_shared_lines({"train": train, "valid": ids([]), "test": ids([])} | splits, EOS)


def test_a_share_above_the_limit_is_told_with_its_split() -> None:
    seen, new = line(100), line(300)
    assert MINIMUM_SHARE == 0.5
    assert warned(valid=ids(seen, new)) == []
    (warning,) = warned(valid=ids(seen, new), test=ids(seen, seen, new))
    assert warning.startswith("test split: 67 % of its lines are in the train split too")
    assert [each[:22] for each in warned(valid=ids(seen), test=ids(seen))] == [
        "valid split: 100 % of ",
        "test split: 100 % of i",
    ]


def test_short_lines_do_not_count() -> None:
    assert warned(valid=ids(*[line(50, 3)] * 10, [], line(300))) == []
    assert warned(valid=ids(line(50, 3), [])) == []


def test_a_line_that_only_begins_or_ends_as_another_is_new() -> None:
    assert warned(valid=ids([*line(100), 7], [7, *line(100)])) == []


def test_a_last_line_that_nothing_ends_counts() -> None:
    assert len(warned(valid=ids(line(100))[:-1])) == 1


@pytest.mark.parametrize("tokenizer", ["word", "sentencepiece"])
def test_a_copy_of_the_train_split_is_told_each_time_it_is_read(
    tmp_path: Path, tokenizer: str, monkeypatch: pytest.MonkeyPatch, log: list[str]
) -> None:
    monkeypatch.setenv("FIXLM_CACHE", str(tmp_path / "cache"))
    text = "\n".join(f"line {i} of a text that is not long" for i in range(300))
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text(text)
    (tmp_path / "test.txt").write_text("line of a text that is long\n")
    for _ in range(2):  # the second time from the tokenised copy
        log.clear()
        corpus.load(str(tmp_path), tokenizer, 300 if tokenizer != "word" else None)
        assert log == [
            "warning: valid split: 100 % of its lines are in the train split too, so its perplexity says little about "
            "new text. Fix: give this split a text of its own"
        ]


def test_the_sample_has_no_such_lines(log: list[str]) -> None:
    corpus.load("sample")
    assert log == []
