"""The figures of docs/images.md are those of results/images, and what the page says of them holds."""

from __future__ import annotations

import importlib
import json

import pytest
from pages import PAGES, ROOT

PAGE = PAGES["docs/images.md"]
FIGURES = json.loads((ROOT / "results" / "images" / "figures.json").read_text())
DIGITS, COUNTS = FIGURES["digits"], FIGURES["counts"]


def test_the_table_of_heads_and_what_the_page_says_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    report = importlib.import_module("image_report")
    assert report.table(DIGITS) in PAGE
    heads = report.by_head(DIGITS)
    assert {head: len(runs) for head, runs in heads.items()} == dict.fromkeys(heads, 5)
    valid = {head: report.last(runs, "valid_error") for head, runs in heads.items()}
    training = {head: report.last(runs, "train_error") for head, runs in heads.items()}
    spread = valid["learned"].std(ddof=1)
    assert abs(valid["random-orthogonal"].mean() - valid["learned"].mean()) < spread
    assert 1 < (valid["learned"].mean() - valid["hadamard"].mean()) * 450 < 2
    for head in ("random-orthogonal", "hadamard"):
        assert abs(training[head].mean() - training["learned"].mean()) < training["learned"].std(ddof=1)


@pytest.mark.parametrize("name", COUNTS["networks"])
def test_the_rows_of_counts(name: str) -> None:
    found = COUNTS["networks"][name]
    before, after = found["parameters"], found["trained_with_fixed_head"]
    row = f"{before:,} | {found['head']:,} | {found['head_percent']:.2f} | {after:,}"
    shown = name if " on " in name else f"torchvision `{name}`"
    assert f"| {shown} | {row} |" in PAGE
