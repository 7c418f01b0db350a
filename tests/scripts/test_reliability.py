"""docs/reliability.md names tests that exist, and figures of committed measurements."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(tests/[\w/]+\.py::\w+)`", TEXT))))
def test_a_test_that_is_named_exists(name: str) -> None:
    path, _, function = name.partition("::")
    assert f"\ndef {function}(" in (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("row", re.findall(r"^\| (?!fault|---).*$", TEXT.partition("## Measured")[0], re.MULTILINE))
def test_every_row_names_a_test(row: str) -> None:
    assert "`tests/" in row


def test_the_figures_are_those_of_the_results() -> None:
    measured = json.loads((ROOT / "results" / "reliability.json").read_text())
    kills, clock, load = (measured[name] for name in ("500 kills", "100 kills by the clock", "load"))
    rows = [
        f"| {kills['kills']} in {kills['runs']} runs, {kills['kills_during_a_save']} of them during a save | ",
        f"| {clock['kills']} in {clock['runs']} runs, {clock['kills_during_a_save']} of them during a save | ",
    ]
    for figures, size in ((load["tokens"]["large_corpus"], "tokens"), (load["words"]["large_vocabulary"], "V")):
        rows.append(f"| {figures[size]:,} | {figures['peak_gb']:.1f} GB | {figures['seconds']:,.0f} s | ")
    data_set = load["a data set"]["large_data_set"]
    row = f"| {data_set['tokens']:,} | {data_set['V']:,} | {data_set['peak_gb']:.1f} GB |"
    assert row in (ROOT / "docs" / "larger_text.md").read_text(encoding="utf-8")
    fuzzed = measured["fuzz"]
    assert sum(fuzzed["inputs"].values()) == fuzzed["total"]
    rows.append(f"| {fuzzed['total']:,}, over eleven readers; none crashed one | ")
    for row in rows:
        assert row in TEXT
