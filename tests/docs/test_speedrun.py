"""The figures of docs/speedrun.md are those of results/speedrun."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from pages import PAGES, ROOT

PAGE = PAGES["docs/speedrun.md"]
PLACE = ROOT / "results" / "speedrun"
RACES = re.findall(r"^\| .* \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d,]+) \| \[([\w-]+)\]", PAGE, re.MULTILINE)


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((PLACE / f"{name}.json").read_text())
    return found


def test_every_race_stands_in_the_table() -> None:
    assert {path.stem for path in PLACE.glob("*.json")} == {"plain", *(row[-1] for row in RACES)}


@pytest.mark.parametrize("row", RACES, ids=lambda row: row[-1])
def test_a_row_is_that_of_its_file(row: tuple[str, ...]) -> None:
    report = read(row[-1])
    assert report["processor"] == read("plain")["processor"]
    first = report["runs"][0]
    minutes, valid, test = (f"{first[name]:.1f}" for name in ("minutes", "valid", "test"))
    assert row[:4] == (minutes, valid, test, f"{first['trained_parameters']:,}")
    assert first["summary"]["config"]["corpus"]["name"] == "wikitext-2"


def test_the_plain_program_is_that_of_its_file() -> None:
    plain = read("plain")
    assert f"| {plain['minutes_of_40_epochs']:,.0f} |" in PAGE
    assert f"one epoch took {plain['minutes_an_epoch']:.1f} minutes" in " ".join(PAGE.split())
