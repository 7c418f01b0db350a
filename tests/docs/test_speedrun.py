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


def test_what_the_pages_say_of_the_nearest_race() -> None:
    plain, nearest = read("plain"), min((read(row[-1])["runs"][0] for row in RACES), key=lambda run: run["test"])
    above, times = 100 * (nearest["test"] / 100.3 - 1), plain["minutes_of_40_epochs"] / nearest["minutes"]
    said = f"ends {above:.1f} % above it, in a {times:.0f}st of the minutes of the example"
    assert said in " ".join(PAGE.split())
    said = f"a test perplexity of {nearest['test']:.1f} in {nearest['minutes']:.0f} minutes"
    assert said in " ".join(PAGES["README.md"].split())
